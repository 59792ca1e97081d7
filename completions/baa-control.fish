# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_baa_control_global_optspecs
    string join \n listen= socket-mode= store= token-file= operator-token-file= etcd-password-file= ca-file= max-connections= max-leases= max-controllers= max-share= max-ttl= q/quiet h/help V/version
end

function __fish_baa_control_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_baa_control_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_baa_control_using_subcommand
    set -l cmd (__fish_baa_control_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c baa-control -n "__fish_baa_control_needs_command" -l listen -d 'Where to listen: unix:PATH, a socket of this machine, or HOST:PORT, beyond loopback only with --token-file; may be given more than once' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -l socket-mode -d 'Who may connect to a socket, as chmod has it' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -l store -d 'The store: sqlite:PATH, a file on this machine, or etcd://[USER@]HOST,HOST/PREFIX, or etcds:// with TLS [default: lease.db in the state directory]' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -l token-file -d 'Ask for one of the tokens in this file, one in each line; HUP reads it again' -r -F
complete -c baa-control -n "__fish_baa_control_needs_command" -l operator-token-file -d 'The same of operators, who may break what others hold' -r -F
complete -c baa-control -n "__fish_baa_control_needs_command" -l etcd-password-file -d 'Read the password of etcd\'s user from this file; else it is BAA_ETCD_PASSWORD' -r -F
complete -c baa-control -n "__fish_baa_control_needs_command" -l ca-file -d 'Trust the certificates in this PEM file, and no others, for etcds' -r -F
complete -c baa-control -n "__fish_baa_control_needs_command" -l max-connections -d 'How many connections at once' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -l max-leases -d 'How many leases, ever: their names are not forgotten' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -l max-controllers -d 'How many controllers, ever' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -l max-share -d 'How much of these one user or address may have that has shown no token, in percent' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -l max-ttl -d 'The longest time to live that a lease may have; what asks for more is refused' -r
complete -c baa-control -n "__fish_baa_control_needs_command" -s q -l quiet -d 'Say nothing but errors, and log no requests'
complete -c baa-control -n "__fish_baa_control_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-control -n "__fish_baa_control_needs_command" -s V -l version -d 'Print version'
complete -c baa-control -n "__fish_baa_control_needs_command" -f -a "backup" -d 'Copy a store to a new file, as it is at one moment; it may be in use'
complete -c baa-control -n "__fish_baa_control_using_subcommand backup" -l store -d 'The store: sqlite:PATH [default: lease.db in the state directory]' -r
complete -c baa-control -n "__fish_baa_control_using_subcommand backup" -s h -l help -d 'Print help'
