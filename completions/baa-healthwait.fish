complete -c baa-healthwait -l successes -d 'This many probes of a target must succeed in a row' -r
complete -c baa-healthwait -l stable-for -d 'A target must stay up for this long' -r
complete -c baa-healthwait -s t -l timeout -d 'Give up after this long; 0 is never [default: 30s, or none with --attempts]' -r
complete -c baa-healthwait -l interval -d 'Pause between probes [default: as short as is free: milliseconds for local targets, politely longer for others]' -r
complete -c baa-healthwait -l probe-timeout -d 'End of one probe; 0 is never' -r
complete -c baa-healthwait -l attempts -d 'Give up after this many probes of a target' -r
complete -c baa-healthwait -l delay -d 'Pause between attempts [default with --attempts: 1s]' -r
complete -c baa-healthwait -l watch-pid -d 'End at once with 69 when this process dies (repeatable)' -r
complete -c baa-healthwait -l served-by -d 'An answer counts only from this process or a descendant of it' -r
complete -c baa-healthwait -l newer-than -d 'An answer counts only from a process started after process PID, or after TIME (@SECONDS or 2026-01-31T12:00:00Z)' -r
complete -c baa-healthwait -l method -d 'Method of the request [default: GET, or POST with data]' -r
complete -c baa-healthwait -s H -l header -d 'Header of the request, \'Name: value\' (repeatable)' -r
complete -c baa-healthwait -l data -d 'Send TEXT as the body of the request, as it is' -r
complete -c baa-healthwait -l data-file -d 'Send what is in this file as the body of the request, as it is (up to 1 MiB)' -r -F
complete -c baa-healthwait -l status -d 'Good statuses: 200, 2xx, 200-399 (several with commas) [default: 200-399]' -r
complete -c baa-healthwait -l header-contains -d 'The answer must have a header NAME that contains TEXT (repeatable)' -r
complete -c baa-healthwait -l body-contains -d 'The body must contain TEXT (repeatable; the first MiB is looked at)' -r
complete -c baa-healthwait -l body-regex -d 'The body must match this regular expression (repeatable; the first 256 KiB are looked at, less for a large one)' -r
complete -c baa-healthwait -l json-path -d 'The JSON body must hold what is said of the pointer PTR of RFC 6901: /ready=true, \'/lag < 10\' (OP is one of = != < <= > >=, or ~ for a regular expression), \'/id exists\' (repeatable)' -r
complete -c baa-healthwait -l cacert -d 'Trust the certificates in this PEM file, and whom they have signed, and no others' -r -F
complete -c baa-healthwait -l cert -d 'Show the certificate in this PEM file to a server that asks for one' -r -F
complete -c baa-healthwait -l key -d 'The key of that certificate, in PEM [default: in the file of --cert]' -r -F
complete -c baa-healthwait -l token-env -d 'Send the bearer token in this environment variable' -r
complete -c baa-healthwait -l token-file -d 'Send the bearer token in this file' -r -F
complete -c baa-healthwait -l resolve -d 'HOST at PORT is at these addresses: nobody is asked (repeatable; for http and tcp; * is any host)' -r
complete -c baa-healthwait -l proxy -d 'Ask http:// and https:// through this proxy, http://HOST:PORT; those of the environment are never taken' -r
complete -c baa-healthwait -l exec-status -d 'Good statuses of commands: 0, 2-5 (several with commas) [default: 0]' -r
complete -c baa-healthwait -l all -d 'All targets must answer (the default)'
complete -c baa-healthwait -l any -d 'One target is enough'
complete -c baa-healthwait -l invert -d 'Wait until targets are down: refused or missing. A timeout is not "down"'
complete -c baa-healthwait -l any-process -d 'With --served-by and --newer-than: an answer counts though others may have given it, who hold the socket too, and though others have led to whoever gave it'
complete -c baa-healthwait -l insecure -d 'Trust any certificate'
complete -c baa-healthwait -l no-redirect -d 'Do not follow redirects'
complete -c baa-healthwait -s q -l quiet -d 'Say nothing but errors'
complete -c baa-healthwait -s v -l verbose -d 'Say every step'
complete -c baa-healthwait -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c baa-healthwait -l json -d 'Print one JSON object on stdout'
complete -c baa-healthwait -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baa-healthwait -s V -l version -d 'Print version'
