package kernels

// A row's float32 reduction has one fixed tree: value i goes to lane i mod 8, each
// lane adds in ascending order from 0, and the lanes join as
// ((0+4)+(2+6)) + ((1+5)+(3+7)), which vector code of 4 or 8 lanes does as cheaply.

func joinLanes(s *[8]float32) float32 {
	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

// sumLanes returns Σ x.
func sumLanes(x []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	i := 0
	for ; i+8 <= len(x); i += 8 {
		v := x[i : i+8 : i+8]
		s0 += v[0]
		s1 += v[1]
		s2 += v[2]
		s3 += v[3]
		s4 += v[4]
		s5 += v[5]
		s6 += v[6]
		s7 += v[7]
	}
	s := [8]float32{s0, s1, s2, s3, s4, s5, s6, s7}
	for l, v := range x[i:] {
		s[l&7] += v
	}
	return joinLanes(&s)
}

// dotLanes returns Σ x·y.
func dotLanes(x, y []float32) float32 {
	y = y[:len(x)]
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	i := 0
	for ; i+8 <= len(x); i += 8 {
		v, w := x[i:i+8:i+8], y[i:i+8:i+8]
		s0 += float32(v[0] * w[0])
		s1 += float32(v[1] * w[1])
		s2 += float32(v[2] * w[2])
		s3 += float32(v[3] * w[3])
		s4 += float32(v[4] * w[4])
		s5 += float32(v[5] * w[5])
		s6 += float32(v[6] * w[6])
		s7 += float32(v[7] * w[7])
	}
	s := [8]float32{s0, s1, s2, s3, s4, s5, s6, s7}
	for l := range x[i:] {
		s[l&7] += float32(x[i+l] * y[i+l])
	}
	return joinLanes(&s)
}

// maxOf returns the greatest value of x, which must not be empty. It may overlook a
// NaN: whoever subtracts it and takes the exponential meets the NaN there.
func maxOf(x []float32) float32 {
	highest := x[0]
	for _, v := range x[1:] {
		if v > highest {
			highest = v
		}
	}
	return highest
}

// expOf sets dst[i] to e^(x[i] − shift).
func expOf(dst, x []float32, shift float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = exp32(v - shift)
	}
}
