# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_baa_reload_global_optspecs
    string join \n service= all-services label-prefix= label= plist= group= manager= scope= domain= home-dir= install-dir= health-url= health-env= health-path= health-unix= no-health any-process attempts= delay= probe-timeout= settle= timeout= health-method= health-header= health-data= health-data-file= health-status= health-header-contains= health-body-contains= health-body-regex= health-json-path= health-cacert= health-insecure health-redirect health-token-env= health-token-file= drain= skip-kickstart rollback no-rollback wait-lock= keep-going before= after= on-failure= hook-timeout= resume q/quiet v/verbose n/dry-run json h/help V/version
end

function __fish_baa_reload_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_baa_reload_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_baa_reload_using_subcommand
    set -l cmd (__fish_baa_reload_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c baa-reload -n "__fish_baa_reload_needs_command" -l service -d 'The service NAME, with the label PREFIX-NAME (repeatable) [default: conductor]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l label-prefix -d 'What precedes -NAME in a label' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l label -l unit -d 'The job (or systemd unit) LABEL instead of a named service' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l plist -d 'Its launchd property list [default: LABEL.plist in the install directory]' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l group -d 'It is the entry LABEL of this group, which baa-daemons runs; its file is read again' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l manager -d 'Who manages it' -r -f -a "auto\t'launchd on macOS; elsewhere systemd where it runs, or else baa'
launchd\t'launchctl(1)'
systemd\t'systemctl(1)'
baa\t'One baa-run(1) for each job, or with --group baa-daemons(1)'"
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l scope -d 'Agents of this user or daemons of the system [default: agent; daemon for root under systemd]' -r -f -a "agent\t'A LaunchAgent, or a unit of the user\'s manager'
daemon\t'A LaunchDaemon, or a unit of the system\'s manager'"
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l domain -d 'launchd\'s domain: gui/UID, user/UID, system [default: from --scope]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l home-dir -d 'The home directory that the install directory is in [default: $HOME]' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l install-dir -d 'The directory of the property lists [default: ~/Library/LaunchAgents, or /Library/LaunchDaemons]' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-url -d 'Ask this URL for its health, or tcp://HOST:PORT, unix:PATH, exec:COMMAND, file:PATH [default for conductor: from --health-env and --health-path]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-env -d 'The variable of the job that holds the base of its URL [default: BAA_CONDUCTOR_LOCAL_API]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-path -d 'What is appended to the base [default: /healthz]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-unix -d 'Ask over this unix socket, for --health-path' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l attempts -d 'Attempts before the kick, and again after it' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l delay -d 'Pause after an attempt; within it the service is asked again as often as is free' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l probe-timeout -d 'End of one health check' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l settle -d 'It must stay up for this long, in the same process' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l timeout -d 'Stop waiting for health after this long [default: when the attempts are used up]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-method -d 'Method of the request [default: GET, or POST with data]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-header -d 'Header of the request, \'Name: value\' (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-data -d 'Send TEXT as the body of the request, as it is' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-data-file -d 'Send what is in this file as the body of the request, as it is (up to 1 MiB)' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-status -d 'Good statuses: 200, 2xx, 200-399 (several with commas) [default: 200]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-header-contains -d 'The answer must have a header NAME that contains TEXT (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-body-contains -d 'The body must contain TEXT (repeatable; the first MiB is looked at)' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-body-regex -d 'The body must match this regular expression (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-json-path -d 'The JSON body must hold what is said of the pointer PTR of RFC 6901: /ready=true, \'/lag < 10\', \'/state ~ ^(ok|idle)$\', \'/id exists\' (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-cacert -d 'Trust the certificates in this PEM file and no others' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-token-env -d 'Send the bearer token in this environment variable' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-token-file -d 'Send the bearer token in this file' -r -F
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l drain -d 'The old process may take this long to exit, where the manager grants it less' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l wait-lock -d 'Wait so long while another reload of the service runs [default: end with 75 at once]' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l before -d 'Run this by the shell before anything is touched; where it fails, nothing is' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l after -d 'Run this when the service has recovered, with the report on its standard input' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l on-failure -d 'Run this when it has not' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l hook-timeout -d 'How long each of these may take' -r
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l all-services -d 'Every service of the prefix whose plist is in the install directory'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l no-health -d 'Be content with a new process; ask no URL'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l any-process -d 'A good answer counts whoever gives it, once the old process is dead: a proxy before the job'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-insecure -d 'Trust any certificate'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l health-redirect -d 'Follow redirects'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l skip-kickstart -d 'Never kick it: not after the bootstrap, not when it does not answer'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l rollback -d 'Go back to the last version that worked whenever the new one is not proven [default: where it never gave a good answer and its attempts are used up]'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l no-rollback -d 'Never go back from a version that the manager has accepted'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l keep-going -d 'Go on with the next service when one failed'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l resume -d 'Only finish the reloads that were cut off, of --label or else of all'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -s v -l verbose -d 'Say every step'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -l json -d 'Print one JSON object on stdout'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -s V -l version -d 'Print version'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -f -a "diagnose" -d 'Tell what is wrong with a service, and touch nothing: 0 healthy, 1 not, 69 it cannot be told'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -f -a "history" -d 'Tell what was reloaded, when, by whom, and how it ended'
complete -c baa-reload -n "__fish_baa_reload_needs_command" -f -a "guard" -d 'Stand by for a reload, and finish it if it dies'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l service -d 'The service NAME, with the label PREFIX-NAME (repeatable) [default: conductor]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l label-prefix -d 'What precedes -NAME in a label' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l label -l unit -d 'The job (or systemd unit) LABEL instead of a named service' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l plist -d 'Its launchd property list [default: LABEL.plist in the install directory]' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l group -d 'It is the entry LABEL of this group, which baa-daemons runs; its file is read again' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l manager -d 'Who manages it' -r -f -a "auto\t'launchd on macOS; elsewhere systemd where it runs, or else baa'
launchd\t'launchctl(1)'
systemd\t'systemctl(1)'
baa\t'One baa-run(1) for each job, or with --group baa-daemons(1)'"
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l scope -d 'Agents of this user or daemons of the system [default: agent; daemon for root under systemd]' -r -f -a "agent\t'A LaunchAgent, or a unit of the user\'s manager'
daemon\t'A LaunchDaemon, or a unit of the system\'s manager'"
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l domain -d 'launchd\'s domain: gui/UID, user/UID, system [default: from --scope]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l home-dir -d 'The home directory that the install directory is in [default: $HOME]' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l install-dir -d 'The directory of the property lists [default: ~/Library/LaunchAgents, or /Library/LaunchDaemons]' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-url -d 'Ask this URL for its health, or tcp://HOST:PORT, unix:PATH, exec:COMMAND, file:PATH [default for conductor: from --health-env and --health-path]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-env -d 'The variable of the job that holds the base of its URL [default: BAA_CONDUCTOR_LOCAL_API]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-path -d 'What is appended to the base [default: /healthz]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-unix -d 'Ask over this unix socket, for --health-path' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l attempts -d 'Attempts before the kick, and again after it' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l delay -d 'Pause after an attempt; within it the service is asked again as often as is free' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l probe-timeout -d 'End of one health check' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l settle -d 'It must stay up for this long, in the same process' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l timeout -d 'Stop waiting for health after this long [default: when the attempts are used up]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-method -d 'Method of the request [default: GET, or POST with data]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-header -d 'Header of the request, \'Name: value\' (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-data -d 'Send TEXT as the body of the request, as it is' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-data-file -d 'Send what is in this file as the body of the request, as it is (up to 1 MiB)' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-status -d 'Good statuses: 200, 2xx, 200-399 (several with commas) [default: 200]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-header-contains -d 'The answer must have a header NAME that contains TEXT (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-body-contains -d 'The body must contain TEXT (repeatable; the first MiB is looked at)' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-body-regex -d 'The body must match this regular expression (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-json-path -d 'The JSON body must hold what is said of the pointer PTR of RFC 6901: /ready=true, \'/lag < 10\', \'/state ~ ^(ok|idle)$\', \'/id exists\' (repeatable)' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-cacert -d 'Trust the certificates in this PEM file and no others' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-token-env -d 'Send the bearer token in this environment variable' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-token-file -d 'Send the bearer token in this file' -r -F
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l all-services -d 'Every service of the prefix whose plist is in the install directory'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l no-health -d 'Be content with a new process; ask no URL'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l any-process -d 'A good answer counts whoever gives it, once the old process is dead: a proxy before the job'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-insecure -d 'Trust any certificate'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l health-redirect -d 'Follow redirects'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -s v -l verbose -d 'Say every step'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -l json -d 'Print one JSON object on stdout'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand diagnose" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand history" -l label -l unit -d 'Only the reloads of the job (or systemd unit) LABEL (repeatable) [default: of all]' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand history" -s N -l last -d 'Only the last N of each label' -r
complete -c baa-reload -n "__fish_baa_reload_using_subcommand history" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand history" -s v -l verbose -d 'Say every step'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand history" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand history" -l json -d 'Print one JSON object on stdout'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand history" -s h -l help -d 'Print help'
complete -c baa-reload -n "__fish_baa_reload_using_subcommand guard" -s h -l help -d 'Print help'
