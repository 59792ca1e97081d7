# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_baa_lease_global_optspecs
    string join \n h/help V/version
end

function __fish_baa_lease_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_baa_lease_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_baa_lease_using_subcommand
    set -l cmd (__fish_baa_lease_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c baa-lease -n "__fish_baa_lease_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -s V -l version -d 'Print version'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "hold" -d 'Run a command while leader: ends with its status, 75 when another leads, 76 when the lease was lost, 124 after --wait'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "acquire" -d 'Take the lease, or go on with it, and print the term: ends with 75 when another leads'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "renew" -d 'Go on with the lease held under a term: ends with 76 when it is lost'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "release" -d 'Give up the lease held under a term: ends with 76 when it is lost'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "status" -d 'Tell who leads: ends with 0 when somebody does, 1 when nobody does'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "check" -d 'Tell whether a term is still the leader\'s: ends with 0 when it is, 1 when it is not'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "guard" -d 'Watch over a command for hold'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l wait -d 'How long to wait while another leads; 0 is not at all [default: without end]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l lease-renew-interval-ms -d 'How often to renew, in milliseconds; never less often than thrice in the lease\'s time' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l node-id -d 'The holder\'s name [default: HOST-main]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l host -d 'The holder\'s host' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine, or http(s)://HOST, a control API [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l shared-token -d 'The token of the control API; better in the environment or in a file, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l token-file -d 'Read the token from this file' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l node-id -d 'The holder\'s name [default: HOST-main]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l host -d 'The holder\'s host' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine, or http(s)://HOST, a control API [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l shared-token -d 'The token of the control API; better in the environment or in a file, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l token-file -d 'Read the token from this file' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l term -d 'The term it is held under' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l node-id -d 'The holder\'s name [default: HOST-main]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l host -d 'The holder\'s host' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine, or http(s)://HOST, a control API [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l shared-token -d 'The token of the control API; better in the environment or in a file, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l token-file -d 'Read the token from this file' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l term -d 'The term it is held under' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l node-id -d 'The holder\'s name [default: HOST-main]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l host -d 'The holder\'s host' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine, or http(s)://HOST, a control API [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l shared-token -d 'The token of the control API; better in the environment or in a file, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l token-file -d 'Read the token from this file' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine, or http(s)://HOST, a control API [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l shared-token -d 'The token of the control API; better in the environment or in a file, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l token-file -d 'Read the token from this file' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l term -d 'The term' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine, or http(s)://HOST, a control API [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l shared-token -d 'The token of the control API; better in the environment or in a file, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l token-file -d 'Read the token from this file' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand guard" -s h -l help -d 'Print help'
