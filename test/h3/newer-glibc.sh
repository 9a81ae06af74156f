#!/bin/sh
# Runs a command with a C library that the native HTTP/3 binding can be loaded with (glibc 2.38).
#
#   sh test/h3/newer-glibc.sh [--or-without] COMMAND [ARGUMENT...]
#
# Where the system's own is new enough, or there is no glibc at all, it just runs the command. Else it unpacks the
# libraries of Debian 13 into node_modules/.cache/glibc, where the next run finds them, and puts a `node` first on the
# PATH that starts the real Node through them, and so does everything that this Node starts. Nothing is installed.
#
# Where they cannot be had it says so in one line and ends with 0 without running the command; with --or-without it
# runs the command as things are, for tests of which only a part needs the binding.
set -eu

wanted=2.38
release=trixie

without=skip
if [ "${1:-}" = --or-without ]; then
  without=run
  shift
fi
if [ $# -eq 0 ]; then
  echo "usage: newer-glibc.sh [--or-without] COMMAND [ARGUMENT...]" >&2
  exit 2
fi

root=$(cd "$(dirname "$0")/../.." && pwd)
# what npm scripts have on their PATH, for those who run this by hand
PATH="$root/node_modules/.bin:$PATH"
export PATH

# macOS and Windows have no glibc, and a Node that this script has started has the newer one already
has=$(node -p 'process.report.excludeNetwork = true, process.report.getReport().header.glibcVersionRuntime ?? ""')
if [ -z "$has" ] || [ "$(printf '%s\n%s\n' $wanted "$has" | sort -V | head -n 1)" = $wanted ]; then
  exec "$@"
fi

case $(uname -m) in
  x86_64) architecture=amd64 triplet=x86_64-linux-gnu loader=usr/lib64/ld-linux-x86-64.so.2 ;;
  aarch64) architecture=arm64 triplet=aarch64-linux-gnu loader=usr/lib/ld-linux-aarch64.so.1 ;;
  *) architecture= ;;
esac

cache=$root/node_modules/.cache/glibc
libraries=$cache/$release-${architecture:-none}

# fetches and unpacks the libraries, with apt's own signatures checked, and with lists and a status of our own
fetch() {
  [ -n "$architecture" ] || { echo "there is no Debian 13 for $(uname -m)" && return 1; }
  command -v apt-get >/dev/null || { echo "there is no apt to fetch a newer one with" && return 1; }
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/fetching.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/lists" "$work/archives" "$work/unpacked"
  : >"$work/status"
  # the mirror that this system uses, where it is a Debian
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n 1)
  mirror=${mirror:-${DEBIAN_MIRROR:-}}
  [ -n "$mirror" ] || { echo "apt knows no mirror of Debian (DEBIAN_MIRROR names one)" && return 1; }
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e $keyring ] && signed="[signed-by=$keyring]" || signed=
  echo "deb $signed $mirror $release main" >"$work/sources.list"
  apt() {
    apt-get -qq -o APT::Architecture=$architecture -o APT::Architectures=$architecture \
      -o APT::Sandbox::User="$(id -un)" -o APT::Update::Error-Mode=any \
      -o Acquire::Languages=none -o Acquire::http::Timeout=20 \
      -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
      -o Dir::State="$work" -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" \
      -o Dir::Cache="$work" "$@" 2>&1
  }
  if ! said=$(apt update && cd "$work/archives" && apt download libc6 libstdc++6 libgcc-s1); then
    echo "Debian 13's could not be fetched ($(echo "$said" | tail -n 1))"
    return 1
  fi
  for archive in "$work"/archives/*.deb; do dpkg-deb -x "$archive" "$work/unpacked"; done
  [ -e "$work/unpacked/$loader" ] || { echo "Debian 13's libc6 is not laid out as expected" && return 1; }
  # another run may have been quicker
  mv -T "$work/unpacked" "$libraries" 2>/dev/null || [ -e "$libraries/$loader" ]
}

if [ ! -e "$libraries/$loader" ] && ! problem=$(fetch); then
  problem="native HTTP/3 needs glibc $wanted, this system has $has, and $problem"
  if [ $without = run ]; then
    echo "$problem: running without it" >&2
    exec "$@"
  fi
  echo "$problem: not run" >&2
  exit 0
fi

# a `node` for everybody; the Node inside takes the loader for itself, unless told otherwise
mkdir -p "$cache/bin"
real=$(node -p process.execPath)
put() {
  cat >"$cache/$1.$$"
  chmod +x "$cache/$1.$$"
  mv "$cache/$1.$$" "$cache/$1"
}
put as-itself.cjs <<END
process.execPath = "$cache/bin/node"
END
put bin/node <<END
#!/bin/sh
exec "$libraries/$loader" --library-path "$libraries/usr/lib/$triplet" "$real" --require "$cache/as-itself.cjs" "\$@"
END

PATH="$cache/bin:$PATH"
export PATH
exec "$@"
