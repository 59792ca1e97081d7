# Completion of baa-peer-remove for fish: the program itself says what may stand where the cursor is.

function _baa_peer_remove
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    set -l word (string replace -ra '[\\\\"\']' '' -- $current)
    set -e typed[1]
    for line in (command baa-peer-remove __complete -- $typed "$word" 2> /dev/null)
        if not string match -q \t'*' -- $line
            echo $line
            continue
        end
        set -l parts (string split \t -- $line)
        set -l before $parts[3]
        set -l rest (string sub -s (math 1 + (string length -- "$before")) -- "$word")
        switch $parts[2]
            case command
                if test $before -le (count $typed)
                    complete -C (string join ' ' -- (string escape -- $typed[$before..-1]) "$current")
                else
                    complete -C "$current"
                end
            case commands
                complete -C "$rest"
            case files
                for path in (__fish_complete_path "$rest")
                    echo -- $before$path
                end
            case plists
                for path in (__fish_complete_path "$rest" | string match -r '^.*(?:/|\.plist)(?:\t.*)?$')
                    echo -- $before$path
                end
            case directories
                for path in (__fish_complete_directories "$rest")
                    echo -- $before$path
                end
        end
    end
end

complete -c baa-peer-remove -f -a '(_baa_peer_remove)'
