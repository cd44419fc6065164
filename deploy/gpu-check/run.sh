#!/bin/sh
# Checks loco on this machine's GPU 0: the driver's compiler on the PTX, the conformance suite, the
# codec's bits, training beside the CPU, and rates, with PyTorch's beside them where Python has torch.
# Needs an NVIDIA driver and nothing else; takes less than 8 minutes. Prints one report, keeps it in
# report.txt, and fails where a check does; a rate below what is asked is no failure. Arguments go to
# the checks: -small does the rates on small shapes.
cd "$(dirname "$0")" || exit 1
rm -f cases.json rates.json
{
	date -u
	timeout 30 ./loco config show --devices
	command -v nvidia-smi >/dev/null && timeout 20 nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader

	echo
	timeout 120 ./kernels.test -gpu -test.v -test.timeout 110s -test.skip 'GPUTable|Emulator' "$@" >tests.log 2>&1 || echo "FAIL: the checks, see tests.log"
	grep -E '^(--- |50 steps|panic|fatal|SIG)' tests.log
	echo "$(grep -c -- '--- PASS' tests.log) checks passed, $(grep -c -- '--- FAIL' tests.log) failed, $(grep -c -- '--- SKIP' tests.log) left out"

	echo
	if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
		./kernels.test -gpu -test.run GPUTable -list-cases cases.json "$@" >/dev/null
		timeout 180 python3 rates.py cases.json rates.json || echo "PyTorch's rates: rates.py did not end, what it measured counts"
	else
		echo "no PyTorch with CUDA here: its rates are left out"
	fi
	if [ -s rates.json ]; then
		set -- -torch rates.json "$@"
	fi
	timeout 120 ./kernels.test -gpu -test.run GPUTable "$@" || echo "FAIL: the rates"
} 2>&1 | tee report.txt
! grep -qE '^FAIL|no GPU' report.txt
