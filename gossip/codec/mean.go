package codec

import "slices"

// mean is the sum of most codecs: Σ shareᵢ·decoded(contributionᵢ), in float32 and in the order of the
// calls, encoded once.
type mean struct {
	up, down Codec
	values   []float32
}

// NewMean returns the weighted mean of contributions in one form as a result in another.
func NewMean(up, down Codec) Sum { return &mean{up: up, down: down} }

// Begin implements [Sum].
func (m *mean) Begin(n int) {
	m.values = slices.Grow(m.values[:0], n)[:n]
	clear(m.values)
}

// Add implements [Sum].
func (m *mean) Add(contribution []byte, share float32) error {
	return m.up.DecodeAdd(m.values, contribution, share)
}

// AppendResult implements [Sum].
func (m *mean) AppendResult(dst []byte) ([]byte, error) { return m.down.AppendEncode(dst, m.values) }
