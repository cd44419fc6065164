package kerneltest

// Random returns n values within ±2, the same for the same seed.
func Random(n int, seed uint32) []float32 {
	v := make([]float32, n)
	for i := range v {
		seed = seed*1664525 + 1013904223
		v[i] = float32(int32(seed)) / (1 << 30)
	}
	return v
}

// Difference is what Exchanger's Difference computes, and so for those below: the
// arithmetic, operation by operation, in float32.
func Difference(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] - b[i]
	}
}

// Rebase is Exchanger's.
func Rebase(fast, from, to []float32) {
	for i := range fast {
		fast[i] = to[i] + (fast[i] - from[i])
	}
}

// Nesterov is Exchanger's.
func Nesterov(slow, momentum, delta []float32, lr, mu float32) {
	for i, g := range delta {
		momentum[i] = float32(mu*momentum[i]) + g
		slow[i] -= float32(lr * (g + float32(mu*momentum[i])))
	}
}

// NoLoCo is Exchanger's.
func NoLoCo(slow, momentum, meanDelta, meanSlow []float32, alpha, beta, gamma float32) {
	for i := range slow {
		pull := float32(gamma * (slow[i] - meanSlow[i]))
		momentum[i] = float32(alpha*momentum[i]) + float32(beta*meanDelta[i]) - pull
		slow[i] += momentum[i]
	}
}

// NoLoCoFast is Exchanger's.
func NoLoCoFast(slow, momentum, meanFast []float32, alpha, beta float32) {
	for i := range slow {
		momentum[i] = float32(alpha*momentum[i]) + float32(beta*(meanFast[i]-slow[i]))
		slow[i] += momentum[i]
	}
}
