package config

import (
	"fmt"
	"strconv"
	"strings"
)

// readSet assigns one "table.key=value" of the command line. Quotes around a text are
// optional; a list is written "a,b" or as TOML.
func (l *loader) readSet(set string) {
	const where = "--set"
	name, text, ok := strings.Cut(set, "=")
	name, text = strings.TrimSpace(name), strings.TrimSpace(text)
	if !ok {
		l.problem(where, "", "", fmt.Sprintf("%q must be table.key=value, such as sync.inner_steps=50", set))
		return
	}
	k, ok := l.key(name)
	if !ok {
		l.problem(where, name, text, unknownKey(name, l.keys))
		return
	}
	l.set(k, parseText(k.Kind, text), where, text)
}

// parseText turns the text of --set into what a TOML decoder would give. Text that is
// not of the kind comes back as it is, and assign then names the mistake.
func parseText(kind, text string) any {
	switch kind {
	case "whole number", "number":
		plain := strings.ReplaceAll(text, "_", "")
		if n, err := strconv.ParseInt(plain, 10, 64); err == nil {
			return n
		}
		if x, err := strconv.ParseFloat(plain, 64); err == nil {
			return x
		}
	case "true or false":
		if text == "true" || text == "false" {
			return text == "true"
		}
	case "list of texts", "list of numbers":
		return parseList(kind, text)
	default:
		if unquoted, err := strconv.Unquote(text); err == nil && text[0] == '"' {
			return unquoted
		}
	}
	return text
}

func parseList(kind, text string) any {
	if strings.HasPrefix(text, "[") {
		if doc, err := ParseDocument("--set", []byte("list = "+text)); err == nil && len(doc.Values) == 1 {
			return doc.Values["list"]
		}
		return text
	}
	items := []any{}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		switch {
		case item == "":
		case kind == "list of numbers":
			items = append(items, parseText("whole number", item))
		default:
			items = append(items, item)
		}
	}
	return items
}
