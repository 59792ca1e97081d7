# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_baa_canary_global_optspecs
    string join \n h/help V/version
end

function __fish_baa_canary_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_baa_canary_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_baa_canary_using_subcommand
    set -l cmd (__fish_baa_canary_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c baa-canary -n "__fish_baa_canary_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -s V -l version -d 'Print version'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -f -a "watch" -d 'Watch in the foreground: ends with 10 when a death was recorded, 0 when all were dismissed, 69 when a target is absent'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -f -a "arm" -d 'Watch in the background: prints spawned, already, skipped or failed'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -f -a "dismiss" -d 'Say that the end to come is meant: nothing is recorded'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -f -a "status" -d 'Tell whether a canary watches: ends with 0 when one does, 3 when none does; tells gaps'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -f -a "list" -d 'List what is armed'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -f -a "snapshot" -d 'Print what would be kept at a death, now'
complete -c baa-canary -n "__fish_baa_canary_needs_command" -f -a "classify" -d 'Tell why a session is gone: ends with 0 when its tmux server lives, 1 when it is dead'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l sock -d 'The tmux server that listens on this socket; may be repeated, as all targets' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l pid -d 'This process' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l pidfile -d 'The process whose pid stands in this file' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l unit -d 'The main process of this unit of systemd: UNIT, user/UNIT or system/UNIT' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l label -d 'The process of this job: launchd\'s (gui/501/LABEL; on macOS a bare label too), or that of a baa-run' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l identity -d 'What it is called in records [default: from the socket\'s, file\'s or unit\'s name]; alone, iapeer\'s socket of that name is meant' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l targets-from -d 'Watch the targets of this file too, one a line: sock=PATH, pid=N, pidfile=PATH, unit=U or label=L, then perhaps identity=ID; - is stdin' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l grace -d 'How soon after a signal on the channel iap-canary-ID a death counts as meant' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l exec -d 'Run this shell command once after each record, with BAA_CANARY_* in its environment and the record as JSON on its stdin' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l exec-timeout -d 'How long that may take' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l log-dir -d 'Keep records here; empty is nowhere [default: logs/iapeer of the root, or canary in the state directory]' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l root -d 'The root of an iapeer installation [default: $IAPEER_ROOT]' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l channel -d 'Wait on the channels of several tmux servers too: a client of tmux for each [default: with one target only]'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l no-channel -d 'Do not wait on the channel'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l no-ring -d 'Take no samples'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l full-args -d 'Keep the arguments of processes, not only their names: they may hold secrets'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l announce -d 'Say one word on stdout once armed, then nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -s v -l verbose -d 'Say every step'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -l json -d 'Print one JSON object on stdout'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand watch" -s h -l help -d 'Print help'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l sock -d 'The tmux server that listens on this socket; may be repeated, as all targets' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l pid -d 'This process' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l pidfile -d 'The process whose pid stands in this file' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l unit -d 'The main process of this unit of systemd: UNIT, user/UNIT or system/UNIT' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l label -d 'The process of this job: launchd\'s (gui/501/LABEL; on macOS a bare label too), or that of a baa-run' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l identity -d 'What it is called in records [default: from the socket\'s, file\'s or unit\'s name]; alone, iapeer\'s socket of that name is meant' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l targets-from -d 'Watch the targets of this file too, one a line: sock=PATH, pid=N, pidfile=PATH, unit=U or label=L, then perhaps identity=ID; - is stdin' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l grace -d 'How soon after a signal on the channel iap-canary-ID a death counts as meant' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l exec -d 'Run this shell command once after each record, with BAA_CANARY_* in its environment and the record as JSON on its stdin' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l exec-timeout -d 'How long that may take' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l log-dir -d 'Keep records here; empty is nowhere [default: logs/iapeer of the root, or canary in the state directory]' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l root -d 'The root of an iapeer installation [default: $IAPEER_ROOT]' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l channel -d 'Wait on the channels of several tmux servers too: a client of tmux for each [default: with one target only]'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l no-channel -d 'Do not wait on the channel'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l no-ring -d 'Take no samples'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l full-args -d 'Keep the arguments of processes, not only their names: they may hold secrets'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l announce -d 'Say one word on stdout once armed, then nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -s v -l verbose -d 'Say every step'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -l json -d 'Print one JSON object on stdout'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand arm" -s h -l help -d 'Print help'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l sock -d 'Of this tmux socket' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l pid -d 'Of this process' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l identity -d 'Called this' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l log-dir -d 'Keep records here; empty is nowhere [default: logs/iapeer of the root, or canary in the state directory]' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l root -d 'The root of an iapeer installation [default: $IAPEER_ROOT]' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -s v -l verbose -d 'Say every step'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l json -d 'Print one JSON object on stdout'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l all -d 'Dismiss everything that is armed here'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -l must-exist -d 'End with 1 when nothing is armed'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand dismiss" -s h -l help -d 'Print help'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -l sock -d 'Of this tmux socket' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -l pid -d 'Of this process' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -l identity -d 'Called this' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -l log-dir -d 'Keep records here; empty is nowhere [default: logs/iapeer of the root, or canary in the state directory]' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -l root -d 'The root of an iapeer installation [default: $IAPEER_ROOT]' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -s v -l verbose -d 'Say every step'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -l json -d 'Print one JSON object on stdout'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand status" -s h -l help -d 'Print help'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand list" -l log-dir -d 'Keep records here; empty is nowhere [default: logs/iapeer of the root, or canary in the state directory]' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand list" -l root -d 'The root of an iapeer installation [default: $IAPEER_ROOT]' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand list" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand list" -s v -l verbose -d 'Say every step'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand list" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand list" -l json -d 'Print one JSON object on stdout'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand list" -s h -l help -d 'Print help'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l sock -d 'The tmux server that listens on this socket; may be repeated, as all targets' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l pid -d 'This process' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l pidfile -d 'The process whose pid stands in this file' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l unit -d 'The main process of this unit of systemd: UNIT, user/UNIT or system/UNIT' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l label -d 'The process of this job: launchd\'s (gui/501/LABEL; on macOS a bare label too), or that of a baa-run' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l identity -d 'What it is called in records [default: from the socket\'s, file\'s or unit\'s name]; alone, iapeer\'s socket of that name is meant' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l log-dir -d 'Keep records here; empty is nowhere [default: logs/iapeer of the root, or canary in the state directory]' -r
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l root -d 'The root of an iapeer installation [default: $IAPEER_ROOT]' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l full-args -d 'List the arguments of processes, not only their names: they may hold secrets'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -s v -l verbose -d 'Say every step'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -l json -d 'Print one JSON object on stdout'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand snapshot" -s h -l help -d 'Print help'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand classify" -l sock -d 'The tmux socket of the session that is gone' -r -F
complete -c baa-canary -n "__fish_baa_canary_using_subcommand classify" -l json -d 'Print one JSON object on stdout'
complete -c baa-canary -n "__fish_baa_canary_using_subcommand classify" -s h -l help -d 'Print help'
