complete -c baa-peer-remove -l root -d 'The root of the installation [default: $IAPEER_ROOT, or .iapeer in the home directory]' -r -F
complete -c baa-peer-remove -l wait -d 'How long to wait for the registry\'s lock' -r
complete -c baa-peer-remove -l force -d 'Also remove what lives, is being waked, has a foreign launchd job, or stands in a registry of a newer version'
complete -c baa-peer-remove -l must-exist -d 'End with 1 when the peer is not registered'
complete -c baa-peer-remove -l keep-state -d 'Leave what is kept under its name in state/lifecycle'
complete -c baa-peer-remove -l purge-only -d 'Only remove what a peer that is not registered has left in state/lifecycle'
complete -c baa-peer-remove -s q -l quiet -d 'Say nothing but errors'
complete -c baa-peer-remove -s v -l verbose -d 'Say every step'
complete -c baa-peer-remove -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-peer-remove -l json -d 'Print one JSON object on stdout'
complete -c baa-peer-remove -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-peer-remove -s V -l version -d 'Print version'
