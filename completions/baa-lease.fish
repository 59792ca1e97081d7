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
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "start" -d 'Run as a conductor: register, lead or stand by until told to stop; options without a verb mean this'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "acquire" -d 'Take the lease, or go on with it, and print the term: ends with 75 when another leads'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "renew" -d 'Go on with the lease held under a term: ends with 76 when it is lost'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "release" -d 'Give up the lease held under a term: ends with 76 when it is lost'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "status" -d 'Tell who leads: ends with 0 when somebody does, 1 when nobody does'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "check" -d 'Tell whether a term is still the leader\'s: ends with 0 when it is, 1 when it is not'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "heartbeat" -d 'Send one heartbeat of a conductor'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "config" -d 'Print what a conductor would be set to'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "checklist" -d 'Print what a conductor does when it starts'
complete -c baa-lease -n "__fish_baa_lease_needs_command" -f -a "guard" -d 'Watch over a command for hold'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l wait -d 'How long to wait while another leads; 0 is not at all [default: without end]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l lease-renew-interval-ms -d 'How often to renew, in milliseconds; never less often than thrice in the lease\'s time [default: 5000]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l node-id -d 'The holder\'s name [default: HOST-main, or HOST-standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l host -d 'The holder\'s host [default: localhost]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l role -d 'primary or standby' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds [default: 30]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l preferred -d 'Be the one who should lead [default: of conductors a primary is]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l no-preferred -d 'Be not the one who should lead'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand hold" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l scheduler -d 'Run this shell command while leader, and only then' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l on-leader -d 'Run this shell command when it begins to lead' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l on-standby -d 'Run this shell command when it leads no more, or another does' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l on-degraded -d 'Run this shell command when it cannot know who leads' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l priority -d 'The higher, the sooner it should lead [default: 100 for a primary, 50 for a standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l version -d 'The version that it tells of itself' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l heartbeat-interval-ms -d 'How often to send a heartbeat, in milliseconds [default: 5000]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l lease-renew-interval-ms -d 'How often to renew, in milliseconds; never less often than thrice in the lease\'s time [default: 5000]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l renew-failure-threshold -d 'After how many cycles that fail in a row it is degraded [default: 2]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l local-api -d 'Where it tells of itself: /healthz, /readyz, /rolez, /v1/runtime' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l runs-dir -d 'Told on to the scheduler and in the snapshot, as are the following' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l worktrees-dir -d 'The worktrees' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l logs-dir -d 'The logs' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l tmp-dir -d 'Temporary files' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l state-dir -d 'The state' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l node-id -d 'The holder\'s name [default: HOST-main, or HOST-standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l host -d 'The holder\'s host [default: localhost]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l role -d 'primary or standby' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds [default: 30]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l preferred -d 'Be the one who should lead [default: of conductors a primary is]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l run-once -d 'One heartbeat and one lease cycle, the snapshot, and no more'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l local-api-anywhere -d 'Let the local API listen beyond loopback'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l no-preferred -d 'Be not the one who should lead'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand start" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l secret-file -d 'Guard the lease by a secret, kept in this file from acquire to release' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l node-id -d 'The holder\'s name [default: HOST-main, or HOST-standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l host -d 'The holder\'s host [default: localhost]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l role -d 'primary or standby' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds [default: 30]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l preferred -d 'Be the one who should lead [default: of conductors a primary is]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l no-preferred -d 'Be not the one who should lead'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand acquire" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l term -d 'The term it is held under' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l secret-file -d 'Guard the lease by a secret, kept in this file from acquire to release' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l node-id -d 'The holder\'s name [default: HOST-main, or HOST-standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l host -d 'The holder\'s host [default: localhost]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l role -d 'primary or standby' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds [default: 30]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l preferred -d 'Be the one who should lead [default: of conductors a primary is]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l no-preferred -d 'Be not the one who should lead'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand renew" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l term -d 'The term it is held under' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l secret-file -d 'Guard the lease by a secret, kept in this file from acquire to release' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l node-id -d 'The holder\'s name [default: HOST-main, or HOST-standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l host -d 'The holder\'s host [default: localhost]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l role -d 'primary or standby' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds [default: 30]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l preferred -d 'Be the one who should lead [default: of conductors a primary is]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l break -d 'Break the lease of another: for root, the user whom baa-control runs as, and who has an operator\'s token'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l no-preferred -d 'Be not the one who should lead'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand release" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand status" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l term -d 'The term' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand check" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l status -d 'leader, standby or degraded' -r -f -a "leader\t''
standby\t''
degraded\t''"
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l priority -d 'The higher, the sooner it should lead [default: 100 for a primary, 50 for a standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l version -d 'The version that it tells of itself' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l heartbeat-interval-ms -d 'How often to send a heartbeat, in milliseconds [default: 5000]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l lease-renew-interval-ms -d 'How often to renew, in milliseconds; never less often than thrice in the lease\'s time [default: 5000]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l renew-failure-threshold -d 'After how many cycles that fail in a row it is degraded [default: 2]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l local-api -d 'Where it tells of itself: /healthz, /readyz, /rolez, /v1/runtime' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l runs-dir -d 'Told on to the scheduler and in the snapshot, as are the following' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l worktrees-dir -d 'The worktrees' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l logs-dir -d 'The logs' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l tmp-dir -d 'Temporary files' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l state-dir -d 'The state' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l node-id -d 'The holder\'s name [default: HOST-main, or HOST-standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l host -d 'The holder\'s host [default: localhost]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l role -d 'primary or standby' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds [default: 30]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l preferred -d 'Be the one who should lead [default: of conductors a primary is]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l no-preferred -d 'Be not the one who should lead'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand heartbeat" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l priority -d 'The higher, the sooner it should lead [default: 100 for a primary, 50 for a standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l version -d 'The version that it tells of itself' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l heartbeat-interval-ms -d 'How often to send a heartbeat, in milliseconds [default: 5000]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l lease-renew-interval-ms -d 'How often to renew, in milliseconds; never less often than thrice in the lease\'s time [default: 5000]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l renew-failure-threshold -d 'After how many cycles that fail in a row it is degraded [default: 2]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l local-api -d 'Where it tells of itself: /healthz, /readyz, /rolez, /v1/runtime' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l runs-dir -d 'Told on to the scheduler and in the snapshot, as are the following' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l worktrees-dir -d 'The worktrees' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l logs-dir -d 'The logs' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l tmp-dir -d 'Temporary files' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l state-dir -d 'The state' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l node-id -d 'The holder\'s name [default: HOST-main, or HOST-standby]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l host -d 'The holder\'s host [default: localhost]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l role -d 'primary or standby' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l lease-ttl-sec -d 'How long the lease lasts without a renewal, in seconds [default: 30]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l preferred -d 'Be the one who should lead [default: of conductors a primary is]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l store -l control-api-base -d 'The store: sqlite:PATH, a file on this machine; unix:[USER@]PATH or http(s)://HOST, a control API; etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l shared-token -d 'The token of the control API; better in a file, or in BAA_SHARED_TOKEN, for arguments are seen by all' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l token-file -d 'Read the token from this file; it goes before all others' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for https and etcds' -r -F
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l lease -d 'The lease' -r
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l no-preferred -d 'Be not the one who should lead'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -s q -l quiet -d 'Say nothing but errors'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -s v -l verbose -d 'Say every step'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -l json -d 'Print one JSON object on stdout'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand config" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand checklist" -l json -d 'Print JSON'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand checklist" -s h -l help -d 'Print help'
complete -c baa-lease -n "__fish_baa_lease_using_subcommand guard" -s h -l help -d 'Print help'
