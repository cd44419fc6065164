#!/bin/sh
# Compiles the kernels to PTX: sm_80, which every card from then on runs. The compiler is pinned,
# because another's PTX would differ; Debian 12 has it: apt-get install clang-14. No file of
# NVIDIA's is needed.
set -eu
cd "$(dirname "$0")"
compiler=clang-14
version=$($compiler --version | sed -n 's/.*clang version \([0-9.]*\).*/\1/p')
if [ "$version" != 14.0.6 ]; then
	echo "kernels/cuda: $compiler is version '$version', the committed PTX is made by 14.0.6" >&2
	exit 1
fi
$compiler -x cuda --cuda-device-only --cuda-gpu-arch=sm_80 -nocudainc -nocudalib -Xclang -target-feature -Xclang +ptx70 \
	-std=c++20 -Wall -Werror -O3 -ffp-contract=off -S -o ../ptx/sm80.ptx kernels.cu
