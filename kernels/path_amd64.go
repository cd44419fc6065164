//go:build !noasm

package kernels

import "golang.org/x/sys/cpu"

// builtWithAssembly says whether vectorPaths can find any.
const builtWithAssembly = true

// vectorPaths returns the assembly that this CPU can run, the fastest first.
func vectorPaths() []*path {
	x := &cpu.X86
	var paths []*path
	// The system must save the registers too, which these flags include.
	if x.HasAVX512F && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX2 && x.HasBMI2 {
		paths = append(paths, &avx512Path)
	}
	if x.HasAVX2 && x.HasFMA && x.HasBMI2 {
		paths = append(paths, &avx2Path)
	}
	return paths
}

var avx512Path = path{
	name: "AVX-512", cols: 32, rows: 12, square: 16,
	panel: panelAVX512, triangle: triangleAVX512, triangleT: triangleTAVX512, transpose: transposeAVX512,
	add: addAVX512, scale: scaleAVX512,
	dot: dotAVX512, greatest: greatestAVX512, scaleGreatest: scaleGreatestAVX512,
	expSum: expSumAVX512, scoreGrad: scoreGradAVX512,
	normRow: normRowAVX512, normGradSum: normGradSumAVX512, normGrad: normGradAVX512,
	rotate: rotateAVX512, swiglu: swigluAVX512, swigluGrad: swigluGradAVX512,
	adamw: adamwAVX512, sumLanes: sumLanesAVX512, squareLanes: squareLanesAVX512,
	peak: peakAVX512, peakFlop: 2 * 12 * 16,
}

var avx2Path = path{
	name: "AVX2", cols: 16, rows: 6, square: 8,
	panel: panelAVX2, triangle: triangleAVX2, triangleT: triangleTAVX2, transpose: transposeAVX2,
	add: addAVX2, scale: scaleAVX2,
	dot: dotAVX2, greatest: greatestAVX2, scaleGreatest: scaleGreatestAVX2,
	expSum: expSumAVX2, scoreGrad: scoreGradAVX2,
	normRow: normRowAVX2, normGradSum: normGradSumAVX2, normGrad: normGradAVX2,
	rotate: rotateAVX2, swiglu: swigluAVX2, swigluGrad: swigluGradAVX2,
	adamw: adamwAVX2, sumLanes: sumLanesAVX2, squareLanes: squareLanesAVX2,
	peak: peakAVX2, peakFlop: 2 * 12 * 8,
}
