#!/bin/sh
# rustc, as cargo calls it for the notebook's kernel. Cells are linked to the library as one shared library: linking is quicker, and all
# cells share one copy of the library's statics (its thread pool, its interrupt flag), of which each would have its own otherwise.
rustc=$1
shift

# While the set-up compiles everything, it hears here how far that has come.
if [ -n "$TSAE_WARM" ] && [ "$1" = --crate-name ] && [ "$2" != build_script_build ]; then
  echo "tsae-rustc $2" >&9
fi
case " $* " in
*" --crate-name ctx "*) ;;
*" --crate-type dylib "*) exec "$rustc" "$@" $TSAE_FLAGS ;;
*) exec "$rustc" "$@" ;;
esac

# Makes the shared library out of the compiled library: `link_shared RLIB SHARED ARGUMENT…`, with the arguments that a cell gets. It is
# a crate that only passes on what the library has. (Compiling the library itself as both kinds at once does not work: cargo starts it
# when the crates below are only half compiled.)
link_shared() (
  rlib=$1
  shared=$2
  shift 2
  folder=
  for arg; do
    shift
    if [ -n "$folder" ]; then
      set -- "$@" -L "$arg"
      folder=
    elif [ "$arg" = -L ]; then
      folder=next
    fi
  done
  # The file's name is written in it, so it has its own from the start, elsewhere.
  draft=${shared%/*}/link.$$
  mkdir -p "$draft"
  echo "pub use @LIB@::*;" | "$rustc" - --crate-name @LIB@_shared --edition 2024 --crate-type dylib -C prefer-dynamic -C opt-level=3 \
    -C embed-bitcode=no --extern "@LIB@=$rlib" "$@" -C "link-arg=-Wl,-rpath,@LIBDIR@" -o "$draft/${shared##*/}" >&2 &&
    mv "$draft/${shared##*/}" "$shared"
  linked=$?
  rm -rf "$draft"
  return $linked
)

found=
wanted=
for arg; do
  shift
  case $arg in
  @LIB@=*.rlib)
    rlib=${arg#*=}
    found=${rlib%/*}
    shared=${rlib##*/lib@LIB@}
    shared=$found/lib@LIB@_shared${shared%.rlib}.@DYLIB@
    if [ ! -e "$shared" ] || [ "$rlib" -nt "$shared" ]; then
      wanted=$rlib
    fi
    arg=@LIB@=$shared ;;
  --emit=*) arg=--emit=${TSAE_EMIT:-${arg#--emit=}} ;;
  esac
  set -- "$@" "$arg"
done
if [ -n "$wanted" ]; then
  if [ -e "$shared.used" ]; then
    # Earlier cells run the old one, and a process cannot hold both.
    text='the sources of the library have changed: restart the kernel to use them'
    printf '{"$message_type":"diagnostic","message":"%s","code":null,"level":"error","spans":[],"children":[],"rendered":"error: %s"}\n' "$text" "$text" >&2
    exit 1
  fi
  link_shared "$wanted" "$shared" "$@" || exit 1
fi
# The cell's file is moved after it is linked, so where its libraries lie is said in full.
set -- "$@" $TSAE_FLAGS -C "link-arg=-Wl,-rpath,@LIBDIR@" ${found:+-C "link-arg=-Wl,-rpath,$found"}
if [ -n "$TSAE_EMIT" ]; then
  # Only checked: cargo must not take it for built.
  "$rustc" "$@"
  exit 1
fi
[ -z "$found" ] || : > "$shared.used"

# Writes how a cell is compiled, for cargo.sh, which does so without cargo until evcxr wants other crates. Paths in it are those of the
# kernel that reads it.
record() {
  export -p | grep -E '^export CARGO_(PKG|MANIFEST|CRATE)_'
  [ -z "$found" ] || echo "[ -n \"\$TSAE_EMIT\" ] || : > '$shared.used'"
  printf 'set --'
  for arg; do
    case $arg in *"'"*) return 1 ;; esac
    # What cargo does with this: colours are for a terminal.
    case $arg in
    --json=*) arg=--json=artifacts ;;
    esac
    case $arg in
    --emit=*) printf ' "--emit=${TSAE_EMIT:-%s}"' "${arg#--emit=}" ;;
    *) printf " '%s'" "$arg" ;;
    esac
    [ "$last" != --out-dir ] || out=$arg
    last=$arg
  done
  echo
  echo "'@SYSROOT@/bin/rustc' \"\$@\" && [ -z \"\$TSAE_EMIT\" ] && printf %s '$out/libctx.@DYLIB@' > \"\$EVCXR_EXECUTION_SO_PATH\""
}
# Crates of the reader's own may change from cell to cell, and only cargo sees that.
if [ -n "$TSAE_CELL" ] && ! sed '1,/^\[dependencies\]/d' Cargo.toml | grep -v '^@PACKAGE@ = ' | grep -q .; then
  mkdir -p cells
  record "$@" > "$TSAE_CELL.part" && sed "s|$PWD|'\"\$PWD\"'|g" "$TSAE_CELL.part" > "$TSAE_CELL.new" && mv "$TSAE_CELL.new" "$TSAE_CELL"
  rm -f "$TSAE_CELL.part"
fi
exec "$rustc" "$@"
