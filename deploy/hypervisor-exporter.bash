# Completion of hypervisor-exporter's flags for bash. Made by `make docs`; do not edit.

_hypervisor_exporter() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    case $previous in
        --config.file|--web.config.file) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        --instances-path) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        --log.level) mapfile -t COMPREPLY < <(compgen -W "debug info warning error" -- "$current") ;;
        --log.format) mapfile -t COMPREPLY < <(compgen -W "logfmt json" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "--config.file --config.check --libvirt.uri --instances-path --web.listen-address --web.telemetry-path --web.config.file --web.systemd-socket --log.level --log.format --collector.cpu --no-collector.cpu --collector.usage --no-collector.usage --collector.memory --no-collector.memory --collector.numa --no-collector.numa --collector.storage --no-collector.storage --collector.capacity --no-collector.capacity --collector.flavors --no-collector.flavors --collector.devices --no-collector.devices --collector.domains --no-collector.domains --collector.guests --no-collector.guests --collector.projects --no-collector.projects --collector.info --no-collector.info --once --format --guests --version -h --help" -- "$current") ;;
    esac
}
complete -F _hypervisor_exporter hypervisor-exporter
