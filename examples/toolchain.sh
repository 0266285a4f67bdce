#!/bin/bash
# toolchain.sh [TARGETS…]: makes sure that Rust can build for the wasm targets, and prints the environment to do it with:
#
#   eval "$(examples/toolchain.sh wasm32-wasip2)"
#
# An installed rustup target is used as it is. Where rustup has none to offer, the toolchain is put together from Debian
# packages (rustc-web with its library sources and LLVM, wasi-libc) and rustup's own linkers, without root and without
# installing anything, under $COPEPOD_CACHE or ~/.cache/copepod (about 1 GB, two minutes, once).
set -euo pipefail
targets=${*:-wasm32-wasip2 wasm32-wasip1}

missing=
for t in $targets; do
  [ -d "$(rustc --print target-libdir --target "$t" 2>/dev/null)" ] || missing+=" $t"
done
[ -n "$missing" ] || exit 0

D=${COPEPOD_CACHE:-$HOME/.cache/copepod}/wasm-toolchain
mkdir -p "$D"
D=$(readlink -f "$D")
exec 9> "$D/lock"
flock 9 # two builds at once share one toolchain

ready=1
for t in $targets; do [ -e "$D/ready-$t" ] || ready=; done
if [ -n "$ready" ]; then cat "$D/env"; exit 0; fi
fail() { echo "toolchain.sh: $*" >&2; exit 1; }
command -v apt-get > /dev/null || fail "rustup target add$missing (and there is no apt-get here to do without rustup)"
echo "toolchain.sh: no rustup target for$missing: making one from Debian packages in $D" >&2
cd "$D"
G=$D/root/usr

# Debian's rustc for wasm, its library sources and its LLVM. Their versions move with security updates: derive the names.
dep() { apt-cache depends "$1" | awk -v p="$2" '$1=="Depends:" && $2 ~ p {print $2; exit}'; }
if [ ! -e unpacked ]; then
  rm -rf debs root apt
  mkdir -p debs root apt/{state/lists/partial,cache/archives/partial}
  STD=$(dep libstd-rust-web-dev '^libstd-rust-web-[0-9]') || true
  LLVM=$(dep "$STD" '^libllvm') || true
  [ -n "$STD" ] && [ -n "$LLVM" ] || fail "no rustc-web among the packages: run apt-get update"
  (cd debs; apt-get -qq download rustc-web libstd-rust-web-dev "$STD" rust-web-src "$LLVM" libz3-4 libedit2 >&2)
  # A wasi-libc that knows wasm32-wasip2 is only in newer suites: fetch that one package through a private apt state.
  U=$(grep -rhoE '(https?|mirror\+file)://?[^ ]*debian/?( |$)' /etc/apt/sources.list.d/debian.sources | head -1 | tr -d ' ')
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $U ${WASI_SUITE:-sid} main" > apt/sources.list
  touch apt/status
  A="-o Dir::Etc::sourcelist=$D/apt/sources.list -o Dir::Etc::sourceparts=- -o Dir::State=$D/apt/state"
  A="$A -o Dir::State::status=$D/apt/status -o Dir::Cache=$D/apt/cache -o APT::Sandbox::User=root"
  apt-get $A -qq update >&2
  (cd debs; apt-get $A -qq download wasi-libc >&2)
  for f in debs/*.deb; do dpkg -x "$f" root; done
  rm -rf debs apt
  cat > rustc <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$G/lib/x86_64-linux-gnu:$G/lib/llvm-${LLVM#libllvm}/lib exec $G/bin/rustc "\$@"
EOF
  chmod +x rustc
  touch unpacked
fi

# rustup's gcc-ld must come before any wasm-ld of Debian's on PATH.
L=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin
cat > env <<EOF
export RUSTC=$D/rustc PATH=$L/gcc-ld:\$PATH
export CARGO_TARGET_WASM32_WASIP2_LINKER=$L/wasm-component-ld
export CARGO_TARGET_WASM32_WASIP1_LINKER=$L/rust-lld
EOF
. ./env
mkdir -p std/src
: > std/src/lib.rs
printf '[package]\nname="stdbuild"\nversion="0.1.0"\nedition="2021"\n[profile.release]\ncodegen-units=1\n[workspace]\n' > std/Cargo.toml
SRC=$("$D/rustc" --print sysroot)/lib/rustlib/src/rust
for t in $targets; do
  [ ! -e "ready-$t" ] || continue
  (cd std; RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$D/std/target \
    RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=$SRC=/rustc --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo build -q --release --target "$t" -Zbuild-std=std,panic_abort >&2)
  lib=$G/lib/rustlib/$t/lib
  mkdir -p "$lib/self-contained"
  cp "std/target/$t/release/deps/"lib*.rlib "$lib/"
  rm -f "$lib"/libstdbuild*
  case $t in *wasi*) cp -L "$G/lib/$t/"{libc.a,crt1-command.o,crt1-reactor.o} "$lib/self-contained/" ;; esac
  touch "ready-$t"
done
rm -rf std/target
cat env
