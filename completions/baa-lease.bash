# Completion of baa-lease for bash: the program itself says what may stand where the cursor is.

_baa_lease() {
    local i line=$COMP_LINE piece rest cur head='' breaks word kind before
    local -a words=() starts=()
    COMPREPLY=()
    # readline parts words at '=' and ':' too; what no blank parts is one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        rest=${line#"${line%%[![:blank:]]*}"}
        if [[ $i == 0 || -z $rest || $rest != "$line" ]]; then
            words+=('')
            starts+=("$i")
        fi
        line=${rest#"$piece"}
        # Of the last one only what is before the cursor.
        [[ $i == "$COMP_CWORD" && $piece != *"$2" ]] && piece=$2
        words[${#words[@]} - 1]+=$piece
    done
    words=("${words[@]//[\\\"\']/}")
    cur=${words[${#words[@]} - 1]}
    # readline puts what we reply after the last of these.
    breaks=${COMP_WORDBREAKS//[!:=]/}
    if [[ -n $breaks && $cur == *[$breaks]* ]]; then
        head=${cur%"${cur##*["$breaks"]}"}
    fi
    while IFS= read -r line; do
        if [[ $line != $'\t'* ]]; then
            word=${line%%$'\t'*}
            if [[ $word == "$cur"* ]]; then
                word=${word#"$head"}
                [[ $word == *[!A-Za-z0-9_./:=@%+,-]* ]] && printf -v word %q "$word"
                COMPREPLY+=("$word")
            fi
            continue
        fi
        IFS=$'\t' read -r kind before <<< "${line#?}"
        rest=${cur#"$before"}
        case $kind in
            command)
                if [[ $(type -t _comp_command_offset) == function ]]; then
                    _comp_command_offset "${starts[before]}"
                elif [[ $(type -t _command_offset) == function ]]; then
                    _command_offset "${starts[before]}"
                elif ((before == ${#words[@]} - 1)); then
                    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -c -- "$cur")
                else
                    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$cur")
                    compopt -o filenames 2> /dev/null
                fi
                return
                ;;
            commands)
                while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -c -- "$rest")
                ;;
            *)
                while IFS= read -r word; do
                    word=$before$word
                    COMPREPLY+=("${word#"$head"}")
                done < <(
                    case $kind in
                        files) compgen -f -- "$rest" ;;
                        plists) compgen -f -X '!*.plist' -- "$rest"; compgen -d -- "$rest" ;;
                        directories) compgen -d -- "$rest" ;;
                    esac
                )
                compopt -o filenames 2> /dev/null
                ;;
        esac
    done < <(command baa-lease __complete -- "${words[@]:1}" 2> /dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=/] ]]; then
        compopt -o nospace 2> /dev/null
    fi
}

complete -F _baa_lease baa-lease
