#compdef PROGRAM
# Completion of PROGRAM for zsh: the program itself says what may stand where the cursor is.

_PROGRAM() {
    local line word about kind before ret=1
    local -a typed said closed open
    typed=("${(@Q)words[2,CURRENT-1]}" "${(Q)IPREFIX}${(Q)PREFIX}")
    said=("${(@f)$(command PROGRAM __complete -- "${typed[@]}" 2> /dev/null)}")
    for line in "${said[@]}"; do
        [[ -n $line && $line != $'\t'* ]] || continue
        word=${line%%$'\t'*}
        about=${${line#"$word"}#$'\t'}
        word=${${word//\\/\\\\}//:/\\:}
        if [[ $word == *(:|=|/) ]]; then
            open+=("$word${about:+:$about}")
        else
            closed+=("$word${about:+:$about}")
        fi
    done
    if (( $#closed + $#open )); then
        _describe -t values PROGRAM closed -- open -S '' && ret=0
    fi
    for line in "${(@M)said:#$'\t'*}"; do
        kind=${${line#?}%%$'\t'*}
        before=${line##*$'\t'}
        case $kind in
            (command)
                shift "$before" words
                (( CURRENT -= before ))
                _normal && ret=0
                ;;
            (commands) _command_names -e && ret=0 ;;
            (*)
                if [[ -n $before && $PREFIX == "$before"* ]]; then
                    IPREFIX+=$before
                    PREFIX=${PREFIX#"$before"}
                fi
                case $kind in
                    (files) _files && ret=0 ;;
                    (plists) _files -g '*.plist' && ret=0 ;;
                    (directories) _files -/ && ret=0 ;;
                esac
                ;;
        esac
    done
    return ret
}

if [[ ${funcstack[1]} == _PROGRAM ]]; then
    _PROGRAM "$@"
else
    compdef _PROGRAM PROGRAM
fi
