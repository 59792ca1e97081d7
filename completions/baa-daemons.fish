# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_baa_daemons_global_optspecs
    string join \n h/help V/version
end

function __fish_baa_daemons_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_baa_daemons_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_baa_daemons_using_subcommand
    set -l cmd (__fish_baa_daemons_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -s V -l version -d 'Print version'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "run" -d 'Run the group until TERM, INT or stop: ends with 0, or 1 when something had to be killed'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "until-success" -d 'Run the group until all of it is ready or done, then stop it: ends with 124 after --timeout, each laggard named'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "check" -d 'Check the file: ends with 65 or 78 when it is wrong'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "graph" -d 'Print the waves in which it starts and stops'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "status" -d 'Tell how it fares: ends with 0 when all of it is ready, 1 when not, 69 when it does not run'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "start" -d 'Let an entry run that was stopped'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "stop" -d 'Stop an entry and what needs it until it is started; without one, the group'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "restart" -d 'Stop an entry and what needs it, and start them again'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "reload" -d 'Have the file read again: what is new or changed is started, and what needs it; what is gone is stopped'
complete -c baa-daemons -n "__fish_baa_daemons_needs_command" -f -a "logs" -d 'Print the end of what entries have said'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand run" -l no-echo -d 'Keep what entries say in their files only, also on a terminal'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand run" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand run" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand run" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand run" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand run" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand until-success" -l timeout -d 'How long it may take; 0 is without end' -r
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand until-success" -l no-echo -d 'Keep what entries say in their files only, also on a terminal'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand until-success" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand until-success" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand until-success" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand until-success" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand until-success" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand check" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand check" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand check" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand check" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand check" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand graph" -l dot -d 'For Graphviz'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand graph" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand graph" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand graph" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand graph" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand graph" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand status" -l watch -d 'Show it again whenever a second is over, until interrupted'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand status" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand status" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand status" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand status" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand status" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand start" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand start" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand start" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand start" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand start" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand stop" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand stop" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand stop" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand stop" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand stop" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand restart" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand restart" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand restart" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand restart" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand restart" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand reload" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand reload" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand reload" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand reload" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand reload" -s h -l help -d 'Print help'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand logs" -s l -l lines -d 'How many lines of each' -r
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand logs" -l events -d 'What happened to the group instead, in JSON'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand logs" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand logs" -s v -l verbose -d 'Say every step'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand logs" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand logs" -l json -d 'Print one JSON object on stdout'
complete -c baa-daemons -n "__fish_baa_daemons_using_subcommand logs" -s h -l help -d 'Print help'
