//go:build !noasm

package cpu

import "runtime"

// builtWithAssembly says whether vectorPaths can find any.
const builtWithAssembly = true

// vectorPaths returns the assembly that this CPU can run: every arm64 CPU that Go runs
// on has NEON.
func vectorPaths() []*path { return []*path{&neonPath} }

var neonPath = path{
	name: "NEON", cols: 16, rows: 6, square: 8,
	panel: panelNEON, triangle: triangleNEON, triangleT: triangleTNEON, transpose: transposeNEON,
	add: addNEON, scale: scaleNEON, axpby: axpbyNEON, axpbSum: axpbSumNEON,
	dot: dotNEON, greatest: greatestNEON, scaleGreatest: scaleGreatestNEON,
	expSum: expSumNEON, scoreGrad: scoreGradNEON,
	normRow: normRowNEON, normGradSum: normGradSumNEON, normGrad: normGradNEON,
	rotate: rotateNEON, swiglu: swigluNEON, swigluGrad: swigluGradNEON,
	adamw: adamwNEON, sumLanes: sumLanesNEON, squareLanes: squareLanesNEON,
	peak: peakNEON, peakFlop: 2 * 24 * 4,
}

// rest lets others run for a moment.
func rest() { runtime.Gosched() }
