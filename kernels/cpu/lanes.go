package cpu

import "loco/kernels"

// lanes is the number of partial sums of a reduction. Every reduction over a row, or
// over a chunk of a vector, has one fixed tree: value i goes to lane i mod 32, each
// lane adds in ascending order from 0, and the lanes join by halves: lane l takes lane
// l+16, then l+8, l+4, l+2 and l+1. Vector code of any width does that without
// shuffling, and 32 sums hide the time an addition takes.
const lanes = kernels.SumLanes

func joinLanes(s *[lanes]float32) float32 {
	for half := lanes / 2; half > 0; half /= 2 {
		for l := range half {
			s[l] += s[l+half]
		}
	}
	return s[0]
}

func plainDot(x, y []float32) float32 {
	y = y[:len(x)]
	var s [lanes]float32
	for i, v := range x {
		s[i%lanes] += float32(v * y[i])
	}
	return joinLanes(&s)
}

// plainGreatest may overlook a NaN. Its callers subtract the maximum and take the exponential,
// where the NaN shows.
func plainGreatest(x []float32) float32 {
	highest := x[0]
	for _, v := range x[1:] {
		if v > highest {
			highest = v
		}
	}
	return highest
}

func plainScaleGreatest(x []float32, factor float32) float32 {
	plainScale(x, factor)
	return plainGreatest(x)
}

func plainExpSum(dst, x []float32, shift float32) float32 {
	dst = dst[:len(x)]
	var s [lanes]float32
	for i, v := range x {
		e := exp32(v - shift)
		dst[i] = e
		s[i%lanes] += e
	}
	return joinLanes(&s)
}

func plainScoreGrad(p, grad []float32, factor, lse, delta float32) {
	grad = grad[:len(p)]
	for i, v := range p {
		e := exp32(float32(v*factor) - lse)
		p[i] = e
		grad[i] = float32(e*(grad[i]-delta)) * factor
	}
}

func plainSumLanes(s *[lanes]float64, x []float32) {
	for ; len(x) >= lanes; x = x[lanes:] {
		for l, v := range x[:lanes] {
			s[l] += float64(v)
		}
	}
}

func plainSquareLanes(s *[lanes]float64, x []float32) {
	for ; len(x) >= lanes; x = x[lanes:] {
		for l, v := range x[:lanes] {
			s[l] += float64(float64(v) * float64(v))
		}
	}
}
