#!/bin/bash
# build.sh [--check] [NAMES…]: builds the example guests (all of them by default) and puts each one's NAME.wasm beside
# its source, where it is committed. With --check it leaves the committed files alone, builds into $OUT (a temporary
# folder by default) and says where.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
check=
if [ "${1:-}" = --check ]; then check=1; shift; OUT=${OUT:-$(mktemp -d)}; mkdir -p "$OUT"; fi
names=${*:-hello tcp-echo preview1 files toolbox}

target() { case $1 in preview1) echo wasm32-wasip1 ;; *) echo wasm32-wasip2 ;; esac }
# Whatever wraps the compiler of the workspace (a linter, say) knows nothing of the guests'.
unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
targets=; for n in $names; do targets+=" $(target "$n")"; done
env=$(./toolchain.sh $(printf '%s\n' $targets | sort -u))
eval "$env"

# No path of this machine goes into the artifact.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
std=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust
RUSTFLAGS="--remap-path-prefix=$PWD=/examples --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$std=/rustc"
for n in $names; do
  t=$(target "$n")
  (cd "$n"; cargo build -q --release --locked --target "$t")
  built=$CARGO_TARGET_DIR/$t/release/$n.wasm
  if [ -n "$check" ]; then cp "$built" "$OUT/$n.wasm"; else cp "$built" "$n/$n.wasm"; fi
  echo "$n: $(wc -c < "$built") bytes${check:+ in $OUT/$n.wasm}"
done
