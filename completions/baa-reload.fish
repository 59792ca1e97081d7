complete -c baa-reload -l service -d 'Reload the service NAME, with the label PREFIX-NAME (repeatable) [default: conductor]' -r
complete -c baa-reload -l label-prefix -d 'What precedes -NAME in a label' -r
complete -c baa-reload -l label -l unit -d 'Reload the job (or systemd unit) LABEL instead of a named service' -r
complete -c baa-reload -l plist -d 'Its launchd property list [default: LABEL.plist in the install directory]' -r -F
complete -c baa-reload -l group -d 'It is the entry LABEL of this group, which baa-daemons runs; its file is read again' -r -F
complete -c baa-reload -l manager -d 'Who manages it' -r -f -a "auto\t'launchd on macOS; elsewhere systemd where it runs, or else baa'
launchd\t'launchctl(1)'
systemd\t'systemctl(1)'
baa\t'One baa-run(1) for each job, or with --group baa-daemons(1)'"
complete -c baa-reload -l scope -d 'Agents of this user or daemons of the system [default: agent; daemon for root under systemd]' -r -f -a "agent\t'A LaunchAgent, or a unit of the user\'s manager'
daemon\t'A LaunchDaemon, or a unit of the system\'s manager'"
complete -c baa-reload -l domain -d 'launchd\'s domain: gui/UID, user/UID, system [default: from --scope]' -r
complete -c baa-reload -l home-dir -d 'The home directory that the install directory is in [default: $HOME]' -r -F
complete -c baa-reload -l install-dir -d 'The directory of the property lists [default: ~/Library/LaunchAgents, or /Library/LaunchDaemons]' -r -F
complete -c baa-reload -l health-url -d 'Ask this URL for its health [default for conductor: from --health-env and --health-path]' -r
complete -c baa-reload -l health-env -d 'The variable of the job that holds the base of its URL [default: BAA_CONDUCTOR_LOCAL_API]' -r
complete -c baa-reload -l health-path -d 'What is appended to the base [default: /healthz]' -r
complete -c baa-reload -l attempts -d 'Attempts before the kick, and again after it' -r
complete -c baa-reload -l delay -d 'Pause after an attempt; within it the service is asked again as often as is free' -r
complete -c baa-reload -l probe-timeout -d 'End of one health check' -r
complete -c baa-reload -l settle -d 'It must stay up for this long, in the same process' -r
complete -c baa-reload -l timeout -d 'Stop waiting for health after this long [default: when the attempts are used up]' -r
complete -c baa-reload -l drain -d 'The old process may take this long to exit, where the manager grants it less' -r
complete -c baa-reload -l all-services -d 'Reload every service of the prefix whose plist is in the install directory'
complete -c baa-reload -l no-health -d 'Be content with a new process; ask no URL'
complete -c baa-reload -l skip-kickstart -d 'Never kick it: not after the bootstrap, not when it does not answer'
complete -c baa-reload -l keep-going -d 'Go on with the next service when one failed'
complete -c baa-reload -s q -l quiet -d 'Say nothing but errors'
complete -c baa-reload -s v -l verbose -d 'Say every step'
complete -c baa-reload -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-reload -l json -d 'Print one JSON object on stdout'
complete -c baa-reload -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-reload -s V -l version -d 'Print version'
