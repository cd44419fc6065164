package compare

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"loco/checkpoint/atomicfile"
)

const (
	chartWidth, chartHeight = 1200, 700 // pixels
	chartDPI                = 96

	// Above these ratios of the largest to the smallest value an axis is logarithmic:
	// below them a straight one is easier to read.
	logTokensFrom = 100
	logLossFrom   = 4
)

// WriteChart writes a PNG of held-out loss against the tokens of all workers, a line
// for each variant that has points.
func (r *Report) WriteChart(w io.Writer) error {
	lines := r.lines()
	if len(lines) == 0 {
		return errors.New("compare: chart: no variant has evaluations")
	}
	p := plot.New()
	p.Title.Text = r.Name
	p.X.Label.Text, p.Y.Label.Text = "tokens, all workers", "held-out loss (nats per token)"
	p.Add(plotter.NewGrid())
	for i, l := range lines {
		if err := l.draw(p, i); err != nil {
			return fmt.Errorf("compare: chart: variant %s: %w", l.name, err)
		}
	}
	setAxes(p)
	size := func(pixels float64) vg.Length { return vg.Length(pixels) * vg.Inch / chartDPI }
	p.Title.TextStyle.Font.Size = size(20)
	p.Title.Padding = size(12)
	p.Legend.Top, p.Legend.Padding = true, size(6)
	p.Legend.TextStyle.Font.Size, p.Legend.ThumbnailWidth = size(16), size(36)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = size(16), size(14)
		a.Label.Padding = size(8)
	}
	canvas := vgimg.NewWith(vgimg.UseWH(size(chartWidth), size(chartHeight)), vgimg.UseDPI(chartDPI))
	area := draw.Crop(draw.New(canvas), size(16), -size(24), size(12), -size(12))
	p.Draw(area)
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}

type line struct {
	name string
	xys  plotter.XYs
}

// lines are the rows' points that can be drawn: finite, and above zero so that a
// logarithmic axis can have them.
func (r *Report) lines() (lines []line) {
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Err != nil {
			continue
		}
		l := line{name: row.Variant}
		if row.Share {
			l.name += " (one worker's share)"
		}
		for _, p := range row.Result.Points {
			if p.Tokens > 0 && p.Loss > 0 && !math.IsInf(p.Loss, 0) {
				l.xys = append(l.xys, plotter.XY{X: float64(p.Tokens), Y: p.Loss})
			}
		}
		if len(l.xys) > 0 {
			lines = append(lines, l)
		}
	}
	return lines
}

// palette is Okabe and Ito's, which people with any colour vision can tell apart.
func palette(i int) color.Color {
	colors := []color.RGBA{
		{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
		{230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255},
	}
	return colors[i%len(colors)]
}

func (l *line) draw(p *plot.Plot, i int) error {
	curve, dots, err := plotter.NewLinePoints(l.xys)
	if err != nil {
		return err
	}
	curve.Color, curve.Width = palette(i), vg.Points(1.75)
	dots.Color, dots.Radius = palette(i), vg.Points(2.25)
	shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.CrossGlyph{}}
	dots.Shape = shapes[i%len(shapes)]
	p.Add(curve, dots)
	p.Legend.Add(l.name, curve, dots)
	return nil
}

// setAxes chooses the scales after the data, and leaves a little air around it.
func setAxes(p *plot.Plot) {
	axis := func(a *plot.Axis, logFrom float64) {
		if a.Max <= a.Min { // a single value
			a.Min, a.Max = a.Min*0.9, a.Max*1.1
		}
		a.Tick.Marker = ticks{}
		if a.Max/a.Min >= logFrom {
			a.Scale, a.Tick.Marker = plot.LogScale{}, ticks{log: true}
			return
		}
		air := (a.Max - a.Min) / 40
		a.Min, a.Max = math.Max(a.Min-air, a.Min/2), a.Max+air
	}
	axis(&p.X, logTokensFrom)
	axis(&p.Y, logLossFrom)
}

// ticks marks an axis with round numbers.
type ticks struct{ log bool }

// Ticks implements plot.Ticker.
func (t ticks) Ticks(lo, hi float64) (marks []plot.Tick) {
	add := func(x float64) {
		if x >= lo && x <= hi {
			marks = append(marks, plot.Tick{Value: x, Label: withPrefix(x, 6)})
		}
	}
	if t.log { // 1, 2 and 5 of each decade
		for e := math.Floor(math.Log10(lo)); e <= math.Log10(hi); e++ {
			for _, m := range []float64{1, 2, 5} {
				add(m * math.Pow(10, e))
			}
		}
		return marks
	}
	const atMost = 10
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/atMost)))
	for _, m := range []float64{2, 5, 10} {
		if (hi-lo)/step <= atMost {
			break
		}
		step = m * math.Pow(10, math.Floor(math.Log10((hi-lo)/atMost)))
	}
	for n := math.Ceil(lo / step); n*step <= hi && len(marks) < 2*atMost; n++ {
		add(n * step)
	}
	return marks
}

// Save writes results.csv and, when there is a curve to draw, curves.png into dir. Each
// file is complete or as it was.
func (r *Report) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "results.csv"), 0o644, r.WriteCSV); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if len(r.lines()) == 0 {
		return nil
	}
	if err := atomicfile.Write(filepath.Join(dir, "curves.png"), 0o644, r.WriteChart); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	return nil
}
