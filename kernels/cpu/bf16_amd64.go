//go:build !noasm

package cpu

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// halfNeeds has the fastest way first. The rest of a step runs on AVX-512.
var halfNeeds = []requirement{
	{"AMX", append([]string{"AMX_TILE", "AMX_BF16", "AVX512_BF16"}, vectorNeeds[0].features...)},
	{"AVX512_BF16", append([]string{"AVX512_BF16"}, vectorNeeds[0].features...)},
}

func halfChoices() []Choice {
	var choices []Choice
	for _, n := range halfNeeds {
		choices = append(choices, n.choice())
	}
	return choices
}

// halves returns the ways to multiply bf16 values that this machine has, the fastest
// first.
func halves() []*half {
	dotChoice, tilesChoice := halfNeeds[1].choice(), halfNeeds[0].choice()
	if len(dotChoice.Missing) > 0 {
		return nil
	}
	dot := &half{
		name: dotChoice.Path, product: panelHalf, round: roundRow, pairs: pairRows,
		// Processors that have AMX, too, do VDPBF16PS at half the rate of float32.
		faster: !cpu.X86.HasAMXBF16, peak: peakHalf, peakFlop: 2 * 2 * 12 * 16,
	}
	if len(tilesChoice.Missing) == 0 && allowTiles() {
		tiles := &half{
			name: tilesChoice.Path, product: newTiles().product, round: roundRow, pairs: pairRows,
			faster: true, peak: peakTiles, peakFlop: 2 * 4 * 16 * 16 * 32,
		}
		return []*half{tiles, dot}
	}
	return []*half{dot}
}

// tileRows and tileBytes are the size of a tile.
const (
	tileRows  = 16
	tileBytes = 64
)

// tileShape is what LDTILECFG reads, and after it whether there is a second tile of
// rows and one of columns.
type tileShape = [tileBytes + 2]byte

// shapeTiles describes blocks of rows ≤ 32 rows and columns ≤ 32 columns: tiles 0 to 3
// are its quarters, 4 and 5 the rows of a, 6 and 7 the columns of b.
func shapeTiles(rows, columns int) tileShape {
	top, left := min(rows, tileRows), min(columns, tileRows)
	shape := tileShape{0: 1} // palette 1
	set := func(tile, rows, words int) {
		if rows == 0 || words == 0 {
			rows, words = 0, 0
		}
		shape[16+2*tile], shape[48+tile] = byte(4*words), byte(rows)
	}
	set(0, top, left)
	set(1, top, columns-left)
	set(2, rows-top, left)
	set(3, rows-top, columns-left)
	set(4, top, tileRows)
	set(5, rows-top, tileRows)
	set(6, tileRows, left)
	set(7, tileRows, columns-left)
	if rows > top {
		shape[tileBytes] = 1
	}
	if columns > left {
		shape[tileBytes+1] = 1
	}
	return shape
}

// tiles are the shapes of blocks by rows and columns, each 1 to 32.
type tiles [2 * tileRows][2 * tileRows]tileShape

func newTiles() *tiles {
	t := &tiles{}
	for r := range t {
		for c := range t[r] {
			t[r][c] = shapeTiles(r+1, c+1)
		}
	}
	return t
}

// product is half.product on AMX.
func (t *tiles) product(c *float32, cRow int, a *float32, aRow, _ int, b *float32, _, m, n, k, mode int, next *float32) {
	const block = 2 * tileRows
	if whole := m / block; whole > 0 {
		tilesAMX(&t[block-1][n-1], c, cRow, a, aRow, b, whole, k/halfWords, mode, next)
	}
	if rest := m % block; rest > 0 {
		done := m - rest
		tilesAMX(&t[rest-1][n-1], below(c, done*cRow), cRow, below(a, done*aRow), aRow, b, 1, k/halfWords, mode, next)
	}
}

// below returns the value that lies some bytes after p.
func below(p *float32, bytes int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), bytes)) }

// peakTiles is half.peak on AMX: four products of zeros on tiles a turn.
func peakTiles(turns int) {
	shape := shapeTiles(2*tileRows, 2*tileRows)
	peakAMX(&shape, turns)
}
