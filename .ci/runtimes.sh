# shellcheck shell=sh
# Where the container runtimes of this machine look for plugins, by their configurations. Sourced by install.sh, whose words
# (say, step) and variables (bin_dir, from) it uses. POSIX sh.
#
# A runtime that looks elsewhere than where podwire was installed goes on with other plugins of the same names, and says
# nothing of it.

# shellcheck disable=SC2154 # bin_dir and from are install.sh's

tab=$(printf '\t')

tell_where_runtimes_look() {
    found=$(runtimes)
    [ -n "$found" ] || return 0
    step "Where the runtimes of this machine look for plugins"
    printf '%s\n' "$found" | while IFS=$tab read -r runtime directories key file; do
        if [ "$file" = - ]; then why='its default'; else why="$key in $file"; fi
        say "$runtime: $(printf '%s' "$directories" | sed 's/:/, then /g') ($why)"
    done
}

# After an installation, as the last words: what each such runtime needs.
tell_who_looks_elsewhere() {
    runtimes | while IFS=$tab read -r runtime directories key file; do
        look_in "$directories"
        if [ $looks_here = yes ] && [ -z "$others" ]; then continue; fi
        step "$runtime does not use what was installed"
        if [ "$runtime" = Podman ]; then say "This concerns its CNI back end (network_backend = \"cni\") only."; fi
        if [ -n "$others" ]; then say "It finds these first:$others"; fi
        if [ $looks_here = no ]; then say "It does not look in $bin_dir."; fi
        if [ -n "$(not_ours_in "$better")" ]; then force=' --force'; else force=''; fi
        say "Install podwire where it looks: $0${from:+ --from $from} --bin-dir $better$force"
        case $key in *dirs) value="[\"$bin_dir\"]" ;; *) value="\"$bin_dir\"" ;; esac
        [ "$file" != - ] || file="the configuration of $runtime"
        case $runtime in Podman) restart='' ;; *) restart=", and restart $runtime" ;; esac
        say "or have $key = $value in $file$restart."
    done
}

# look_in DIRECTORIES: what a runtime finds there. Sets looks_here (does it come to bin_dir?), others (what it finds before
# that) and better (the directory to install into instead).
look_in() {
    looks_here=no others='' better=''
    for dir in $(printf '%s' "$1" | tr : ' '); do
        if is_same_directory "$dir" "$bin_dir"; then looks_here=yes && return; fi
        found=''
        for name in $(plugins); do if [ -x "$dir/$name" ]; then found="$found $dir/$name"; fi; done
        if [ -z "$others" ] && { [ -n "$found" ] || [ -z "$better" ]; }; then better=$dir; fi
        others=$others$found
    done
}

# Before the last words of --uninstall: ours in a directory that was not meant.
tell_who_has_ours() {
    runtimes | cut -f 2 | tr : '\n' | sort -u | while read -r dir; do
        is_same_directory "$dir" "$bin_dir" || ! is_ours "$dir/bridge" ||
            say "Plugins of podwire are in $dir too: $0 --uninstall --bin-dir $dir"
    done
}

# A line for each runtime that is here: its name, the directories in their order (with ':' between), and the key and the
# file that say so ('-' where it is the default).
runtimes() {
    command -v awk >/dev/null || return 0
    # shellcheck disable=SC2046 # paths without spaces
    runtime containerd containerd 'bin_dir bin_dirs' /opt/cni/bin $(with_imports /etc/containerd/config.toml)
    runtime k3s k3s 'bin_dir bin_dirs' '' /var/lib/rancher/k3s/agent/etc/containerd/config.toml
    runtime RKE2 rke2 'bin_dir bin_dirs' '' /var/lib/rancher/rke2/agent/etc/containerd/config.toml
    runtime CRI-O crio plugin_dirs /opt/cni/bin /etc/crio/crio.conf /etc/crio/crio.conf.d/*
    set -- /usr/share/containers/containers.conf /etc/containers/containers.conf /etc/containers/containers.conf.d/*.conf
    # Netavark takes no CNI plugins.
    [ "$(for file in "$@"; do [ ! -f "$file" ] || strings_of network_backend "$file"; done | tail -n 1)" = netavark ] ||
        runtime Podman podman cni_plugin_dirs \
            /usr/local/libexec/cni:/usr/libexec/cni:/usr/local/lib/cni:/usr/lib/cni:/opt/cni/bin "$@"
}

# runtime NAME PROGRAM KEYS DEFAULT FILE...: of several files with a key, and of several keys, the last one counts.
runtime() {
    runtime_name=$1 program=$2 keys=$3 directories=$4 said_by=${3%% *}$tab- is_here=no
    shift 4
    for file in "$@"; do
        [ -f "$file" ] || continue
        is_here=yes
        for key in $keys; do
            found=$(strings_of "$key" "$file" | sed 's,\(.\)/*$,\1,' | tr '\n' : | sed 's/:$//')
            [ -z "$found" ] || directories=$found said_by=$key$tab$file
        done
    done
    [ $is_here = yes ] || command -v "$program" >/dev/null || return 0
    [ -z "$directories" ] || printf '%s\t%s\t%s\n' "$runtime_name" "$directories" "$said_by"
}

# FILE and those that its key `imports` names.
with_imports() {
    printf '%s\n' "$1"
    [ ! -f "$1" ] || for pattern in $(strings_of imports "$1"); do
        case $pattern in /*) ;; *) pattern=${1%/*}/$pattern ;; esac
        # shellcheck disable=SC2086 # it is a pattern
        printf '%s\n' $pattern
    done
}

# strings_of KEY FILE: the strings of a TOML key, which is one or a list of them, a line each; of several the last counts.
strings_of() {
    awk -v key="$1" '
        $0 ~ "^[ \t]*" key "[ \t]*=" { is_open = 1; found = ""; sub(/^[^=]*=[ \t]*/, ""); is_list = /^\[/ }
        is_open {
            while (match($0, /"[^"]*"|\047[^\047]*\047|#|\]/)) {
                token = substr($0, RSTART, RLENGTH)
                $0 = substr($0, RSTART + RLENGTH)
                if (token == "#") break
                if (token == "]") { is_list = 0; break }
                if (length(token) > 2) found = found substr(token, 2, length(token) - 2) "\n"
            }
            is_open = is_list
        }
        END { printf "%s", found }
    ' "$2"
}

is_same_directory() { [ "$1" = "$2" ] || { [ -d "$1" ] && [ "$(real "$1")" = "$(real "$2")" ]; }; }

# The plugins in a directory that have our names and are another project's.
not_ours_in() {
    for name in $(plugins); do if exists "$1/$name" && ! is_ours "$1/$name"; then printf '%s\n' "$name"; fi; done
}
