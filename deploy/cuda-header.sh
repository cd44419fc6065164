#!/usr/bin/env bash
# Gets cuda.h, the one NVIDIA file that a build with -tags cuda needs, from the system's own packages
# (Debian: non-free, Ubuntu: multiverse) and puts it in FOLDER. Installs nothing, needs no root, and
# leaves the machine's own sources as they are. The package is 774 MB, of which one file is kept.
#
#   deploy/cuda-header.sh [FOLDER]     (default: build/cuda/include beside the Makefile)
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$here/build/cuda/include}
if [ -s "$folder/cuda.h" ]; then
	echo "cuda-header: $folder/cuda.h is there"
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "cuda-header: no apt on this machine: install a CUDA toolkit from 11.8 to 13, or copy the cuda.h of one to $folder" >&2
	exit 1
fi

. /etc/os-release
case ${ID:-} in
ubuntu) more='universe multiverse' ;;
*) more='contrib non-free' ;;
esac

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{parts,state/lists/partial,cache/archives/partial} "$folder"

# The machine's own sources for its release, with the component added that holds the package.
for f in /etc/apt/sources.list.d/*.sources; do
	[ -e "$f" ] && grep -q "^Suites:.*${VERSION_CODENAME}" "$f" && grep -q '^Components: *main' "$f" &&
		sed "s/^Components:.*/Components: main $more/" "$f" >"$tmp/parts/$(basename "$f")"
done
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | grep "^deb .*${VERSION_CODENAME}.* main" |
	sed "s/ main.*/ main $more/" >"$tmp/sources.list" || :

apt() {
	apt-get -q -o Dir::Etc::sourcelist="$tmp/sources.list" -o Dir::Etc::sourceparts="$tmp/parts" -o Dir::State::lists="$tmp/state/lists" \
		-o Dir::Cache="$tmp/cache" -o APT::Sandbox::User=root -o Debug::NoLocking=true "$@"
}
cd "$tmp"
if ! { timeout 300 bash -c "$(declare -f apt); tmp='$tmp'; apt update && apt download nvidia-cuda-dev"; } >"$tmp/log" 2>&1; then
	tail -n 3 "$tmp/log" >&2
	echo "cuda-header: the package nvidia-cuda-dev cannot be had: install a CUDA toolkit from 11.8 to 13, or copy the cuda.h of one to $folder" >&2
	exit 1
fi
# dpkg-deb ends by SIGPIPE once tar has its one file.
{ dpkg-deb --fsys-tarfile nvidia-cuda-dev_*.deb 2>/dev/null || :; } | tar -x --occurrence=1 ./usr/include/cuda.h
mv usr/include/cuda.h "$folder/cuda.h"
echo "cuda-header: $folder/cuda.h, CUDA $(sed -n 's/^#define CUDA_VERSION //p' "$folder/cuda.h")"
