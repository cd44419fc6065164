package cpu

// A packing is how the operands of a product lie in memory. A packed op(b) is panels
// of cols columns each; a panel has a row of 32-bit words for each value of k or, in
// bf16, for each pair of them.
type packing struct {
	*path
	half *half
}

// words is the number of rows of a panel for k values of k.
func (p packing) words(k int) int {
	if p.half == nil {
		return k
	}
	return blocks(k, 2*halfWords) * halfWords
}

// packed is the number of words of a packed op(b) of n columns.
func (p packing) packed(n, k int) int { return blocks(n, p.cols) * p.cols * p.words(k) }

// scratch is the number of words of tmp that transposed and rows need.
func (p packing) scratch(k int) int {
	if p.half == nil {
		return 0
	}
	return p.cols * (p.words(k) + rowGap)
}

// transposed packs the rows of src, srcRow apart, n of k values each, as the columns of
// op(b). What a panel has after its last column stays as it is: no product reads it.
func (p packing) transposed(dst, src []float32, srcRow, n, k int, tmp []float32) {
	if p.half == nil {
		p.packTransposed(dst, src, srcRow, n, k)
		return
	}
	words := p.words(k)
	for j := 0; j < n; j += p.cols {
		count := min(p.cols, n-j)
		for i := range count {
			_ = src[(j+i)*srcRow+k-1]
			p.half.round(&tmp[i*(words+rowGap)], &src[(j+i)*srcRow], k)
		}
		p.turn(dst[j*words:], p.cols, tmp, words+rowGap, count, words)
	}
}

// straight packs the matrix (k, n) in src, srcRow apart, as op(b). dst holds panels of
// words words of k, of which these are the first.
func (p packing) straight(dst []float32, words int, src []float32, srcRow, n, k int) {
	if p.half == nil {
		whole := 0
		if p.copyPanels != nil && n >= p.cols && k > 0 {
			whole = n / p.cols * p.cols
			_, _ = src[(k-1)*srcRow+whole-1], dst[(whole-p.cols)*words+k*p.cols-1]
			p.copyPanels(&dst[0], 4*p.cols*words, &src[0], 4*srcRow, k, whole/p.cols)
		}
		for j := whole; j < n; j += p.cols {
			panel, width := dst[j*words:], min(p.cols, n-j)
			for l := range k {
				copy(panel[l*p.cols:][:p.cols], src[l*srcRow+j:][:width])
			}
		}
		return
	}
	if whole := k / 2; whole > 0 {
		_, _ = src[(2*whole-1)*srcRow+n-1], dst[(blocks(n, p.cols)-1)*p.cols*words+whole*p.cols-1]
		p.half.pairs(&dst[0], 4*p.cols*words, &src[0], 4*srcRow, whole, n)
	}
	for j := 0; j < n; j += p.cols {
		if k%2 != 0 { // the last row has no other: a pair with zeros
			var two [2 * 32]float32
			width := min(p.cols, n-j)
			copy(two[:width], src[(k-1)*srcRow+j:])
			p.half.pairs(&dst[j*words+k/2*p.cols], 0, &two[0], 4*32, 1, width)
		}
		clear(dst[j*words+blocks(k, 2)*p.cols : j*words+p.words(k)*p.cols])
	}
}

// rows packs n rows of op(a) from where src begins: k values each next to each other,
// or, transposed, in the columns of src. dst's rows are dstRow words apart. Only bf16
// needs the first form, and tmp.
func (p packing) rows(dst []float32, dstRow int, src []float32, srcRow, n, k int, transposed bool, tmp []float32) {
	switch {
	case p.half == nil:
		p.turn(dst, dstRow, src, srcRow, k, n)
	case !transposed:
		for i := range n {
			_ = src[i*srcRow+k-1]
			p.half.round(&dst[i*dstRow], &src[i*srcRow], k)
		}
	default:
		words := p.words(k)
		for i := 0; i < n; i += p.cols {
			count := min(p.cols, n-i)
			p.straight(tmp, words, src[i:], srcRow, count, k)
			p.turn(dst[i*dstRow:], dstRow, tmp, p.cols, words, count)
		}
	}
}
