package compare

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// WriteTable writes the rows as aligned text.
func (r *Report) WriteTable(w io.Writer) error {
	lines := [][]string{{"variant", "strategy", "workers", "rounds", "tokens", "held-out loss", "perplexity", "gap to best", "tokens/s", "sent/worker", "compute", "replica std"}}
	shares, failures := false, []string{}
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Err != nil {
			lines = append(lines, append([]string{row.Variant, "failed"}, make([]string, len(lines[0])-2)...))
			failures = append(failures, row.Variant+": "+row.Err.Error())
			continue
		}
		s, name := &row.Result.Summary, row.Variant
		if row.Share {
			name += " *"
			shares = true
		}
		lines = append(lines, []string{
			name, s.Strategy, strconv.Itoa(s.Workers), strconv.FormatUint(s.Rounds, 10), short(float64(s.Tokens)),
			number("%.4f", s.HeldoutLoss), number("%.3f", s.Perplexity), number("%+.2f %%", r.gapPercent(row)),
			short(s.TokensPerSecond), short(float64(row.bytesPerWorker())) + "B", number("%.1f %%", 100*s.ComputeUtilisation), number("%.3g", s.ReplicaStd),
		})
	}
	var b strings.Builder
	align(&b, lines)
	if shares {
		b.WriteString("\n* alone, on one worker's share of the tokens\n")
	}
	for _, f := range failures {
		b.WriteString("\nfailed: " + f + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// align writes columns: the first two to the left, numbers to the right.
func align(b *strings.Builder, lines [][]string) {
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		var text strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				text.WriteString("  ")
			}
			if i < 2 {
				text.WriteString(cell + pad)
			} else {
				text.WriteString(pad + cell)
			}
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
}

// number formats x, and a NaN as a dash.
func number(format string, x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf(format, x)
}

// short writes a count with three digits and a decimal prefix: 1.23M.
func short(x float64) string { return withPrefix(x, 3) }

func withPrefix(x float64, digits int) string {
	prefix := ""
	for _, p := range []string{"k", "M", "G", "T", "P"} {
		if math.Abs(x) < 999.5 {
			break
		}
		x, prefix = x/1000, p
	}
	return strconv.FormatFloat(x, 'g', digits, 64) + prefix
}

func (row *Row) bytesPerWorker() uint64 {
	return row.Result.Summary.BytesSent / uint64(max(1, row.Result.Summary.Workers))
}

// columns of results.csv. Scripts rely on them: add at the end only.
var columns = []string{
	"variant", "strategy", "codec", "workers", "rounds", "tokens", "heldout_loss", "perplexity", "gap_percent", "tokens_per_second",
	"bytes_sent_per_worker", "compute_utilisation", "replica_std", "seconds", "parameters", "one_worker_share", "folder", "error",
}

// WriteCSV writes the rows with full precision. An empty cell is a value that there is
// none of.
func (r *Report) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	if err := c.Write(columns); err != nil {
		return err
	}
	for i := range r.Rows {
		if err := c.Write(r.record(&r.Rows[i])); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

func (r *Report) record(row *Row) []string {
	if row.Err != nil {
		record := make([]string, len(columns))
		record[0], record[len(record)-2], record[len(record)-1] = row.Variant, folder(row), row.Err.Error()
		return record
	}
	s := &row.Result.Summary
	return []string{
		row.Variant, s.Strategy, s.Codec, strconv.Itoa(s.Workers), strconv.FormatUint(s.Rounds, 10), strconv.FormatUint(s.Tokens, 10),
		exact(s.HeldoutLoss), exact(s.Perplexity), exact(r.gapPercent(row)), exact(s.TokensPerSecond),
		strconv.FormatUint(row.bytesPerWorker(), 10), exact(s.ComputeUtilisation), exact(s.ReplicaStd), exact(s.Seconds),
		strconv.FormatUint(s.Parameters, 10), strconv.FormatBool(row.Share), folder(row), "",
	}
}

// folder is the row's folder below the experiment's, "" before it has one.
func folder(row *Row) string {
	if row.Dir == "" {
		return ""
	}
	return filepath.Base(row.Dir)
}

func exact(x float64) string {
	if math.IsNaN(x) {
		return ""
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}
