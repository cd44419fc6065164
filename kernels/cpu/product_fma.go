package cpu

// Go allows a compiler to fuse a·b + s into one instruction, and on arm64, ppc64le,
// riscv64, s390x and amd64 from v3 on it does. That is what a product wants, many times
// faster than fuse; but nothing promises it. So whether this compiler did is found out
// by running the code it made.

// fusedTile is tile for a compiler that fuses.
func (x *product) fusedTile(i, j int) {
	r0, r1 := x.c[i*x.cRow+j:][:2], x.c[(i+1)*x.cRow+j:][:2]
	r2, r3 := x.c[(i+2)*x.cRow+j:][:2], x.c[(i+3)*x.cRow+j:][:2]
	var c00, c01, c10, c11, c20, c21, c30, c31 float32
	if x.mode == productChain {
		c00, c01, c10, c11, c20, c21, c30, c31 = r0[0], r0[1], r1[0], r1[1], r2[0], r2[1], r3[0], r3[1]
	}
	a0, a1 := x.a[i*x.aRow:], x.a[(i+1)*x.aRow:]
	a2, a3 := x.a[(i+2)*x.aRow:], x.a[(i+3)*x.aRow:]
	at, bt := 0, j
	for range x.k {
		y0, y1 := x.b[bt], x.b[bt+1]
		v0, v1, v2, v3 := a0[at], a1[at], a2[at], a3[at]
		c00, c01 = v0*y0+c00, v0*y1+c01
		c10, c11 = v1*y0+c10, v1*y1+c11
		c20, c21 = v2*y0+c20, v2*y1+c21
		c30, c31 = v3*y0+c30, v3*y1+c31
		at, bt = at+x.aCol, bt+x.bRow
	}
	if x.mode == productAdd {
		c00, c01, c10, c11 = r0[0]+c00, r0[1]+c01, r1[0]+c10, r1[1]+c11
		c20, c21, c30, c31 = r2[0]+c20, r2[1]+c21, r3[0]+c30, r3[1]+c31
	}
	r0[0], r0[1], r1[0], r1[1] = c00, c01, c10, c11
	r2[0], r2[1], r3[0], r3[1] = c20, c21, c30, c31
}

// compilerFuses says whether fusedTile has the bits of tile: it computes tiles of
// values that a product rounded by itself would get wrong about every other time.
func compilerFuses() bool {
	const k = 16
	var a, b [4 * k]float32
	seed := uint32(1)
	for i := range a {
		seed = seed*1664525 + 1013904223
		a[i] = float32(int32(seed)) * (1.0 / (1 << 31))
		seed = seed*1664525 + 1013904223
		b[i] = float32(int32(seed)) * (1.0 / (1 << 31))
	}
	for _, mode := range []int{productSet, productAdd, productChain} {
		var fused, exact [8]float32
		copy(fused[:], b[:])
		exact = fused
		x := product{a: a[:], aRow: k, aCol: 1, b: b[:], bRow: 2, cRow: 2, m: 4, n: 2, k: k, mode: mode}
		x.c = fused[:]
		x.fusedTile(0, 0)
		x.c = exact[:]
		x.tile(0, 0)
		if fused != exact {
			return false
		}
	}
	return true
}
