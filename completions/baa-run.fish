# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_baa_run_global_optspecs
    string join \n job= label= restart= throttle= stop-timeout= lock= lock-wait= backoff= healthy-after= give-up= give-up-status= listen= ready= ready-timeout= ready-successes= update-timeout= live= live-interval= live-failures= watchdog= notify-access= drain-signal= drain-cmd= drain-url= drain-timeout= drain-notice= drain-abort= cooldown= on-restart= usr1= supervisor= shutdown-timeout= no-new-privs detach q/quiet v/verbose n/dry-run json h/help V/version
end

function __fish_baa_run_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_baa_run_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_baa_run_using_subcommand
    set -l cmd (__fish_baa_run_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c baa-run -n "__fish_baa_run_needs_command" -l job -d 'Keep the job of this launchd property list' -r -F
complete -c baa-run -n "__fish_baa_run_needs_command" -l label -d 'Keep lock, status and control socket under this name [default: the job\'s Label]' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l restart -d 'When to start it again [default: always, or what the job says]' -r -f -a "never\t'Never: end with its status'
on-failure\t'After any end but an exit with 0'
always\t'Always'"
complete -c baa-run -n "__fish_baa_run_needs_command" -l throttle -d 'Shortest time between two starts [default: 1s, or the job\'s ThrottleInterval]' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l stop-timeout -d 'How long it may take to stop before it is killed; 0 is without end [default: 20s, or the job\'s ExitTimeOut]' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l lock -d 'Lock this file first, and hold it until the keeper ends or is parked; it tells who holds it' -r -F
complete -c baa-run -n "__fish_baa_run_needs_command" -l lock-wait -d 'How long to wait for the lock; 0 is not at all' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l backoff -d 'After each failure in a row, pause twice as long as before, up to this; 0 is never' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l healthy-after -d 'A run that lasts so long begins anew with the shortest pause' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l give-up -d 'Give up, with 78, after so many bad ends within this time; of a label, keepers before this one are counted too' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l give-up-status -d 'The status to give up with: 78 is to stay down, 75 asks for another start' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l listen -d 'Listen on HOST:PORT or unix:PATH, and pass the socket on as systemd does (LISTEN_FDS), again at each start' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l ready -d 'It is started when this target answers, from a process of its own: http://, tcp://, unix:, file:, exec:; with notify, when it says so as sd_notify does; with fd:N, when it writes a line to that descriptor' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l ready-timeout -d 'How long that may take: the first time the keeper ends with 69, later it is parked, idle until it is asked' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l ready-successes -d 'It must answer well so often in a row' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l update-timeout -d 'How long the next life may take to serve in an update, while the old one goes on' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l live -d 'Once it serves, ask this target again and again; when it does not answer any more, restart' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l live-interval -d 'Between two such questions' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l live-failures -d 'After so many bad answers in a row it does not serve any more' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l watchdog -d 'It says WATCHDOG=1 over NOTIFY_SOCKET at least so often; when it does not, restart' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l notify-access -d 'Whose word counts over NOTIFY_SOCKET' -r -f -a "main\t'The main process'
exec\t'The main process, and the commands that the keeper runs for it'
all\t'All processes that came of it, and those commands'"
complete -c baa-run -n "__fish_baa_run_needs_command" -l drain-signal -d 'Before a restart, send this signal, after which the command ends by itself' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l drain-cmd -d 'Before a restart, run this shell command, which returns when nothing is left to be done' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l drain-url -d 'Before a restart, POST here, then GET how much is left, a number or JSON with pending, until it is 0' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l drain-timeout -d 'How long a drain may take; 0 is without end' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l drain-notice -d 'How often to tell that it still drains; 0 is never' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l drain-abort -d 'When a drain is cut short, run this shell command, which aborts what is left' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l cooldown -d 'Shortest time between two restarts that are asked for; those that come together are one' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l on-restart -d 'When a restart or an update is over, run this shell command; BAA_CHANGE, BAA_OUTCOME and BAA_WHY tell what came of it' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l usr1 -d 'What USR1 means when no restart is meant by it [default: ignore; pass, as process 1]' -r -f -a "ignore\t'Nothing'
restart\t'A restart'
pass\t'It is the command\'s'"
complete -c baa-run -n "__fish_baa_run_needs_command" -l supervisor -d 'Who starts the keeper anew when it ends: then a restart that is meant by TERM is drained, and left to it' -r -f -a "auto\t''
none\t''
launchd\t''
systemd\t''
external\t''"
complete -c baa-run -n "__fish_baa_run_needs_command" -l shutdown-timeout -d 'When a stop is not over by then, write a stability bundle and end with 1; never before --stop-timeout and 5s more' -r
complete -c baa-run -n "__fish_baa_run_needs_command" -l no-new-privs -d 'Neither it nor what it starts gains privileges by a setuid program or the like (Linux)'
complete -c baa-run -n "__fish_baa_run_needs_command" -l detach -d 'Keep it in the background: return once the keeper is up'
complete -c baa-run -n "__fish_baa_run_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-run -n "__fish_baa_run_needs_command" -s v -l verbose -d 'Say every step'
complete -c baa-run -n "__fish_baa_run_needs_command" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-run -n "__fish_baa_run_needs_command" -l json -d 'Print one JSON object on stdout'
complete -c baa-run -n "__fish_baa_run_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-run -n "__fish_baa_run_needs_command" -s V -l version -d 'Print version'
complete -c baa-run -n "__fish_baa_run_needs_command" -a "ctl" -d 'Ask the keeper of a label'
complete -c baa-run -n "__fish_baa_run_using_subcommand ctl" -l reason -d 'Why, for restart, update, drain and intend; the next life finds it in BAA_RESTART_REASON' -r
complete -c baa-run -n "__fish_baa_run_using_subcommand ctl" -l timeout -d 'How long to wait for what comes of it [default: without end]' -r
complete -c baa-run -n "__fish_baa_run_using_subcommand ctl" -l now -d 'Restart at once, however short ago the last one was'
complete -c baa-run -n "__fish_baa_run_using_subcommand ctl" -l no-wait -d 'Return once a restart or an update is asked for, whatever comes of it'
complete -c baa-run -n "__fish_baa_run_using_subcommand ctl" -l json -d 'Print one JSON object on stdout'
complete -c baa-run -n "__fish_baa_run_using_subcommand ctl" -s h -l help -d 'Print help (see more with \'--help\')'
