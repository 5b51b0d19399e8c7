#!/bin/sh
exec "@SYSROOT@/bin/rustc" "$@"
