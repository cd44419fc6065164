//go:build !noasm

package cpu

// builtWithAssembly says whether vectorPaths can find any.
const builtWithAssembly = true

// vectorPaths returns the assembly that this CPU can run, the fastest first. The
// system must save the registers too, which the features include.
func vectorPaths() []*path {
	var paths []*path
	for i, p := range []*path{&avx512Path, &avx2Path} {
		if len(vectorNeeds[i].choice().Missing) == 0 {
			paths = append(paths, p)
		}
	}
	return paths
}

// rest waits for less than a microsecond.
func rest() { pause(4) }

var avx512Path = path{
	name: "AVX-512", cols: 32, rows: 12, square: 16,
	panel: panelAVX512, triangle: triangleAVX512, triangleT: triangleTAVX512, transpose: transposeAVX512, copyPanels: copyPanelsAVX512,
	add: addAVX512, scale: scaleAVX512, axpby: axpbyAVX512, axpbSum: axpbSumAVX512,
	dot: dotAVX512, greatest: greatestAVX512, scaleGreatest: scaleGreatestAVX512,
	expSum: expSumAVX512, scoreGrad: scoreGradAVX512,
	normRow: normRowAVX512, normGradSum: normGradSumAVX512, normGrad: normGradAVX512,
	rotate: rotateAVX512, swiglu: swigluAVX512, swigluGrad: swigluGradAVX512,
	adamw: adamwAVX512, sumLanes: sumLanesAVX512, squareLanes: squareLanesAVX512,
	peak: peakAVX512, peakFlop: 2 * 12 * 16,
	streams: &streams{streamReadAVX512, streamUpdateAVX512, streamWriteAVX512, streamWritePastAVX512},
	formats: avx512Formats, streamEncode: streamEncodeAVX512, streamEncodePast: streamEncodePastAVX512, streamAdd: streamAddAVX512,
}

var avx2Path = path{
	name: "AVX2", cols: 16, rows: 6, square: 8,
	panel: panelAVX2, triangle: triangleAVX2, triangleT: triangleTAVX2, transpose: transposeAVX2, copyPanels: copyPanelsAVX2,
	add: addAVX2, scale: scaleAVX2, axpby: axpbyAVX2, axpbSum: axpbSumAVX2,
	dot: dotAVX2, greatest: greatestAVX2, scaleGreatest: scaleGreatestAVX2,
	expSum: expSumAVX2, scoreGrad: scoreGradAVX2,
	normRow: normRowAVX2, normGradSum: normGradSumAVX2, normGrad: normGradAVX2,
	rotate: rotateAVX2, swiglu: swigluAVX2, swigluGrad: swigluGradAVX2,
	adamw: adamwAVX2, sumLanes: sumLanesAVX2, squareLanes: squareLanesAVX2,
	peak: peakAVX2, peakFlop: 2 * 12 * 8,
	streams: &streams{streamReadAVX2, streamUpdateAVX2, streamWriteAVX2, streamWritePastAVX2},
	formats: avx2Formats, streamEncode: streamEncodeAVX2, streamEncodePast: streamEncodePastAVX2, streamAdd: streamAddAVX2,
}
