package config

import "strings"

// nearest returns the candidate that differs from s in the fewest edits, "" when
// none is close enough to be what was meant.
func nearest(s string, candidates []string) string {
	if len(s) > 64 {
		return ""
	}
	best, bestEdits := "", max(1, (len(s)+1)/3)
	for _, c := range candidates {
		if n := edits(strings.ToLower(s), c); n <= bestEdits && (best == "" || n < bestEdits) {
			best, bestEdits = c, n
		}
	}
	return best
}

// edits counts the bytes that must be inserted, deleted, replaced or swapped with
// their neighbour to turn a into b. Both are short: nearest checks s, and the
// candidates are names in this package.
func edits(a, b string) int {
	above, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			replace := row[j]
			if a[i] != b[j] {
				replace++
			}
			next[j+1] = min(replace, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], above[j-1]+1)
			}
		}
		above, row = row, next
	}
	return row[len(b)]
}

// suggestKey guesses which key an unknown one stands for: a near name in its table,
// or the same or a near last part in any table. "" when nothing is near.
func suggestKey(name string, keys []Key) string {
	table, last, dotted := strings.Cut(name, ".")
	if !dotted {
		table, last = "", name
	}
	var inTable, everywhere []string
	byLast := map[string][]string{}
	for _, k := range keys {
		part := strings.TrimPrefix(k.Name, k.Table+".")
		if k.Table == table {
			inTable = append(inTable, part)
		}
		everywhere = append(everywhere, part)
		byLast[part] = append(byLast[part], k.Name)
	}
	if guess := nearest(last, inTable); guess != "" {
		return table + "." + guess
	}
	return strings.Join(byLast[nearest(last, everywhere)], " or ")
}
