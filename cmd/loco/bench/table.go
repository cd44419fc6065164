package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"loco/kernels/cpu"
)

// Write writes what computes, why so, and its limits.
func (m Machine) Write(w io.Writer) {
	fmt.Fprintf(w, "machine  %s/%s, %d threads, %d CPUs, %s\n", m.OS, m.Arch, m.Threads, m.CPUs, m.Go)
	if len(m.Features) > 0 {
		fmt.Fprintf(w, "found    %s\n", strings.Join(m.Features, " "))
	}
	fmt.Fprintf(w, "path     %s\n", m.why())
	fmt.Fprintf(w, "products %s\n", m.whyPrecision())
	if m.FMAAll > 0 {
		fmt.Fprintf(w, "limits   fused multiply-adds: %.0f GFLOP/s on 1 thread, %.0f on %d\n", m.FMAOne, m.FMAAll, m.Threads)
	} else {
		fmt.Fprintf(w, "limits   fused multiply-adds: not measured, a loop in Go does not reach them\n")
	}
	if m.BF16All > 0 {
		fmt.Fprintf(w, "         multiplications of bf16: %.0f GFLOP/s on %d threads\n", m.BF16All, m.Threads)
	}
	if m.Memory != nil {
		fmt.Fprintf(w, "         memory, %d MB: read %.1f, copy %.1f, read-modify-write %.1f GB/s\n", m.Memory.Bytes/1e6, m.Memory.Read, m.Memory.Copy, m.Memory.Update)
	}
}

// why says which path runs, and what those before it would need.
func (m Machine) why() string {
	at := slices.IndexFunc(m.Choices, func(c cpu.Choice) bool { return c.Path == m.Path })
	if at < 0 {
		return m.Path
	}
	s := m.Path
	if needs := m.Choices[at].Needs; len(needs) > 0 {
		s += ", which needs " + strings.Join(needs, " ")
	}
	if at == 0 {
		return s + "; there is no faster one"
	}
	return s + faster(m.Choices[:at])
}

// whyPrecision says what products are multiplied in, and what bf16 would need.
func (m Machine) whyPrecision() string {
	at := slices.IndexFunc(m.Halves, func(c cpu.Choice) bool { return m.Precision == "bf16 by "+c.Path })
	switch {
	case at < 0 && len(m.Halves) == 0:
		return m.Precision + "; bf16 is not built for " + m.Arch + " or without assembly"
	case at < 0:
		return m.Precision + faster(m.Halves)
	}
	return m.Precision + faster(m.Halves[:at])
}

// faster says why each of the choices before the one that runs does not.
func faster(choices []cpu.Choice) string {
	s := ""
	for _, c := range choices {
		if len(c.Missing) == 0 {
			s += fmt.Sprintf("; %s is there and was not chosen", c.Path)
			continue
		}
		s += fmt.Sprintf("; %s is faster and lacks %s", c.Path, strings.Join(c.Missing, " "))
	}
	return s
}

const rowFormat = "%-20s %-42s %10s %9s %-8s %8s %-14s %6s\n"

// WriteHeadings writes the headings of the rows.
func WriteHeadings(w io.Writer) {
	fmt.Fprintf(w, rowFormat, "kernel", "shape", "time", "rate", "", "limit", "", "share")
}

// Write writes one row.
func (r Result) Write(w io.Writer) {
	limit, share := "-", "-"
	if r.Limit > 0 {
		limit, share = fmt.Sprintf("%.1f", r.Limit), fmt.Sprintf("%.0f %%", 100*r.Share)
	}
	fmt.Fprintf(w, rowFormat, r.Kernel, r.Shape, duration(r.Seconds), fmt.Sprintf("%.1f", r.Rate), r.Unit, limit, r.LimitName, share)
}

func duration(seconds float64) string {
	switch {
	case seconds < 1e-3:
		return fmt.Sprintf("%.1f µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.2f ms", seconds*1e3)
	}
	return fmt.Sprintf("%.2f s", seconds)
}

// WriteFoot says what was left out.
func (r Report) WriteFoot(w io.Writer) {
	need := 0.0
	for _, l := range r.LeftOut {
		fmt.Fprintf(w, "left out: %s %s, which would take about %s\n", l.Kernel, l.Shape, duration(l.Seconds))
		need += l.Seconds
	}
	if need > 0 {
		fmt.Fprintf(w, "--seconds %.0f has room for all\n", r.Seconds+need+1)
	}
}
