#!/bin/sh
# Checks loco on this machine's GPU 0: the driver's compiler on the PTX, the conformance suite, the
# codec's bits, training beside the CPU, and rates, with PyTorch's beside them where Python has torch.
# Needs an NVIDIA driver and nothing else; takes less than 8 minutes. Prints one report, keeps it in
# report.txt, and fails where a check does; a rate below what is asked is no failure. Arguments go to
# the checks: -small does the rates on small shapes.
cd "$(dirname "$0")" || exit 1
began=$(date +%s)

# All limits together: what stands before PyTorch may take 280 s, and PyTorch gets what is left of
# 465 s without the table's 95 s, so 90 s at least.
devices=15 smi=10 blas=10 compile=60 again=15 checks=110 parity=50 list=10 table=95 all=465

# Where the driver keeps what it compiled.
export CUDA_CACHE_PATH="$PWD/cache" CUDA_CACHE_MAXSIZE=1073741824 CUDA_CACHE_DISABLE=0
rm -f cases.json rates.json

# Python's packages have cuBLAS where the loader does not look.
folders=$(timeout $blas python3 - 2>/dev/null <<'PYTHON'
import glob, importlib.util, os, sys
roots = [sys.prefix + "/lib"]
for name, inside in (("nvidia", "*/lib"), ("torch", "lib")):
    spec = importlib.util.find_spec(name)
    for folder in spec.submodule_search_locations or [] if spec else []:
        roots += glob.glob(os.path.join(folder, inside))
print(":".join(r for r in roots if glob.glob(r + "/libcublas.so.*")))
PYTHON
)
path="$folders${folders:+${LD_LIBRARY_PATH:+:}}${LD_LIBRARY_PATH:-}"

# loco runs a program for so many seconds with cuBLAS in its path, which other programs would find
# strange libraries beside.
loco() {
	limit=$1
	shift
	timeout -k 1 "$limit" env ${path:+LD_LIBRARY_PATH="$path"} "$@"
}

{
	date -u
	loco $devices ./loco config show --devices
	command -v nvidia-smi >/dev/null && timeout $smi nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader
	echo "cuBLAS of Python's packages: ${folders:-none}"

	echo
	rm -rf cache && mkdir cache || echo "FAIL: the driver's cache cannot be emptied"
	for limit in $compile $again; do
		loco "$limit" ./kernels.test -gpu -test.run GPUCompiles || echo "FAIL: compiling the PTX, in $limit s"
	done

	loco $checks ./kernels.test -gpu -test.v -test.timeout $((checks - 5))s -test.skip 'GPU(Table|Compiles)|Parity|Emulator' "$@" >tests.log 2>&1 || echo "FAIL: the checks, see tests.log"
	grep -E '^(--- FAIL|panic|fatal|SIG)' tests.log
	echo "checks: $(grep -c '^--- PASS' tests.log) passed, $(grep -c '^--- FAIL' tests.log) failed, $(grep -c '^--- SKIP' tests.log) left out"
	loco $parity ./kernels.test -gpu -test.run Parity "$@" || echo "FAIL: training beside the CPU"

	if ! command -v python3 >/dev/null; then
		echo "no Python here: PyTorch's rates are left out"
	elif loco $list ./kernels.test -gpu -test.run GPUTable -list-cases cases.json "$@" >/dev/null; then
		left=$((began + all - table - $(date +%s)))
		[ "$left" -gt 0 ] || left=1 # 0 would be no limit
		# What torch.compile started may outlive it: it must not hold this report's end open.
		timeout -k 1 "$left" python3 rates.py cases.json rates.json >torch.log 2>&1
		case $? in
		0) ;;
		124 | 137) echo "PyTorch had no time after $left s: what it measured counts" ;;
		*) echo "PyTorch's rates, see torch.log: $(tail -n 1 torch.log)" ;;
		esac
		grep -E '^PyTorch|^(training step|linear|matmul|attention).*(eager|compile|Error)' torch.log
	fi
	if [ -s rates.json ]; then
		set -- -torch rates.json "$@"
	fi
	loco $table ./kernels.test -gpu -test.run GPUTable "$@" || echo "FAIL: the rates"
} 2>&1 | sed -u '/^PASS$/d' | tee report.txt

count() { grep -cE "$1" report.txt; }
{
	echo
	echo "$(count '\(asked|BELOW|ABOVE') rows have a number that is asked for: $(count 'BELOW|ABOVE') miss it; $(count 'without PyTorch') lack PyTorch's rate, $(count 'LEFT OUT') are left out, $(count '^FAIL') steps failed"
	echo "$(($(date +%s) - began)) s"
} | tee -a report.txt
! grep -qE '^FAIL|no GPU' report.txt
