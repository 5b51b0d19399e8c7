#!/bin/sh
# cargo, as the notebook's kernel calls it. evcxr starts with an empty Cargo.toml, so that cargo empties Cargo.lock; before cargo resolves
# the library again, the project's own lock is put back: the notebook runs the versions that the command runs, and needs no network.
if [ -n "$TSAE_LOCK" ] && grep -q '^ *@PACKAGE@ *=' Cargo.toml 2>/dev/null && ! grep -q '^name = "@PACKAGE@"$' Cargo.lock 2>/dev/null; then
  cp "$TSAE_LOCK" Cargo.lock
fi
# Only rust-analyzer asks in this way.
case " $* " in
*" metadata "*" --filter-platform "*)
  [ -n "$TSAE_METADATA" ] && exec "$TSAE_PYTHON" -I -S "$TSAE_METADATA" @PACKAGE@ "@SYSROOT@/bin/cargo" "$@" ;;
esac
exec "@SYSROOT@/bin/cargo" "$@"
