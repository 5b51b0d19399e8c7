#!/bin/sh
# cargo, as the notebook's kernel calls it: evcxr for every cell, and the rust-analyzer in it. All that has been said before is answered
# here: cargo takes a tenth of a second to find that nothing has changed.
cargo=@SYSROOT@/bin/cargo

# evcxr asks whether it can add a crate. Ours it can.
if [ "$*" = "metadata --format-version=1" ] && grep -q '"evcxr_dummy_validate_dep"' Cargo.toml &&
  grep -qF "@PACKAGE@ = { path = \"${TSAE_LOCK%/*}\" }" Cargo.toml; then
  exit 0
fi

# Cells are compiled in cargo's release profile and without a platform's name, as the command is: crates that both need are then the same
# files, see reuse.rs. evcxr's flags are for the cell alone. `cargo check` has files of its own for every crate; instead of it, the crates
# are built and the cell is checked, by rustc-wrapper.sh.
verb=
case " $* " in
*" build "*" --message-format=json "*) verb=build ;;
*" check "*" --message-format=json "*) verb=check; export TSAE_EMIT=metadata ;;
esac
if [ -n "$verb" ]; then
  [ "$1" = --offline ] && offline=$1 || offline=
  set -- $offline build --release --message-format=json
  if [ -z "$RUSTC_WRAPPER" ]; then
    export TSAE_FLAGS="$RUSTFLAGS"
    unset RUSTFLAGS
  fi
fi

# What is added to evcxr's code around a cell's. Not before the relay asks for it with its first cell: at its start evcxr compiles an empty one, and
# waits until somebody has taken what that prints, which nobody does yet.
if [ "$verb" = build ] && [ -e relayed ]; then
  sed -f "${0%/*}/../../cell.sed" src/lib.rs >src/lib.new && mv src/lib.new src/lib.rs
fi

# A cell is compiled as the one before it was, if that had the same crates: see rustc-wrapper.sh.
if [ -n "$verb" ]; then
  key=$({ echo "$* $RUSTC $TSAE_FLAGS" && cat Cargo.toml; } | cksum | tr ' ' -)
  export TSAE_CELL="cells/$key"
  if [ -r "$TSAE_CELL" ]; then
    . "./$TSAE_CELL"
    exit
  fi
fi

# What rust-analyzer asks about the toolchain whenever it loads a project.
case " $* " in
*" --print cfg "* | *" --print target-spec-json "*)
  said=${0%/*}/../said-$(echo "$*" | cksum | tr ' ' -)
  [ -r "$said" ] || { "$cargo" "$@" >"$said.$$" && mv "$said.$$" "$said" || { rm -f "$said.$$"; exit 1; }; }
  exec cat "$said" ;;
esac

# evcxr starts with an empty Cargo.toml, so that cargo empties Cargo.lock; before cargo resolves the library again, the project's own lock
# is put back: the notebook runs the versions that the command runs, and needs no network.
if [ -n "$TSAE_LOCK" ] && grep -q '^ *@PACKAGE@ *=' Cargo.toml 2>/dev/null && ! grep -q '^name = "@PACKAGE@"$' Cargo.lock 2>/dev/null; then
  cp "$TSAE_LOCK" Cargo.lock
fi

# Only rust-analyzer asks in this way: for the crates that it is to read. See session.py and metadata.py.
case " $* " in
*" --no-deps "*) ;;
*" metadata "*" --filter-platform "*)
  [ -d "$RUST_SRC_PATH/core/unseen" ] && exec "$cargo" "$@" --no-deps
  [ -n "$TSAE_METADATA" ] && exec "$TSAE_PYTHON" -I -S "$TSAE_METADATA" @PACKAGE@ "$cargo" "$@" ;;
esac
exec "$cargo" "$@"
