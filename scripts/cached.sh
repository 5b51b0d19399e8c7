# For the scripts that make something once, in the cache folder; they source this file.

cache=${TSAE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenized-sae}

# The first characters of a file's SHA-256, by the Python $1: another list is another environment.
hash_of() { "$1" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:12])' "$2"; }

# Lets one process at a time make $1, where the system has flock.
one_at_a_time() {
    mkdir -p "$cache"
    exec 9> "$cache/$1.lock"
    if command -v flock > /dev/null; then flock 9; fi
}

# Installs with the Python $1, and says nothing but what goes wrong.
pip_of() {
    local python=$1
    shift
    "$python" -m pip install --disable-pip-version-check --no-input --progress-bar off --quiet "$@" >&2
}
