#!/bin/sh
# rustc, as cargo calls it for the notebook's kernel. The library is compiled as a shared library too, and cells are linked to that:
# linking is quicker, and all cells share one copy of the library's statics (its thread pool, its interrupt flag).
rustc=$1
shift
# While the set-up compiles everything, it hears here how far that has come.
if [ -n "$TSAE_WARM" ] && [ "$1" = --crate-name ] && [ "$2" != build_script_build ]; then
  echo "tsae-rustc $2" >&9
fi
case " $* " in
*" --crate-name @LIB@ "*" --crate-type lib "*)
  exec "$rustc" "$@" --crate-type dylib -C prefer-dynamic -C "link-arg=-Wl,-rpath,@LIBDIR@" ;;
*" --crate-name ctx "*)
  found=
  for arg; do
    shift
    case $arg in
    @LIB@=*.rlib)
      file=${arg#*=}
      file=${file%.rlib}.@DYLIB@
      if [ -e "$file" ]; then
        arg=@LIB@=$file
        found=${file%/*}
      fi ;;
    esac
    set -- "$@" "$arg"
  done
  # The cell's file is moved after it is linked, so the folders in it that rustc names from where it lay are wrong.
  exec "$rustc" "$@" -C "link-arg=-Wl,-rpath,@LIBDIR@" ${found:+-C "link-arg=-Wl,-rpath,$found"} ;;
*)
  exec "$rustc" "$@" ;;
esac
