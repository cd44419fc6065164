package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"strconv"
	"strings"
)

// A mutant is one edit of one file: the bytes [start, end) become text.
type mutant struct {
	file       string // as given by the go command, below the module
	path       string // of the file on this machine
	src        []byte // the file as it was read: it may be edited meanwhile
	function   string // Type.Method, or the name of a function, constant or variable; "package" for a type
	kind       string
	line       int
	start, end int
	text       string
	before     string // the expression or statement on one line
	after      string
}

func (m mutant) change() string { return m.before + "  →  " + m.after }

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d  %s  %s:  %s", m.file, m.line, m.function, m.kind, m.change())
}

func (m mutant) key() string { return m.file + " | " + m.function + " | " + m.change() }

// draw puts the mutants in an order that depends on the seed alone.
func draw(all []mutant, o options) []mutant {
	var chosen []mutant
	for _, m := range all {
		place := fmt.Sprintf("%s:%d", m.file, m.line)
		if o.only == "" || strings.Contains(place, o.only) || m.function == o.only || m.kind == o.only {
			chosen = append(chosen, m)
		}
	}
	rng := rand.New(rand.NewPCG(o.seed, 0))
	rng.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen
}

var swaps = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL, token.REM: token.MUL,
	token.AND: token.OR, token.OR: token.AND, token.XOR: token.AND, token.AND_NOT: token.AND,
	token.SHL: token.SHR, token.SHR: token.SHL, token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN,
	token.MUL_ASSIGN: token.QUO_ASSIGN, token.QUO_ASSIGN: token.MUL_ASSIGN, token.REM_ASSIGN: token.MUL_ASSIGN,
	token.AND_ASSIGN: token.OR_ASSIGN, token.OR_ASSIGN: token.AND_ASSIGN, token.XOR_ASSIGN: token.AND_ASSIGN,
	token.SHL_ASSIGN: token.SHR_ASSIGN, token.SHR_ASSIGN: token.SHL_ASSIGN,
	token.INC: token.DEC, token.DEC: token.INC,
}

func kindOf(op token.Token) string {
	switch op {
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		return "bound"
	case token.EQL, token.NEQ:
		return "equality"
	}
	return "operator"
}

// finder collects the mutants of one file, in the order of the source.
type finder struct {
	fset    *token.FileSet
	src     []byte
	proto   mutant // file, path and function
	found   []mutant
	results []*ast.FieldList // of the functions around the node
	headers map[ast.Stmt]bool
}

// findMutants lists every mutant of a file; none of a generated one.
func findMutants(file, path string, src []byte) ([]mutant, error) {
	f := finder{fset: token.NewFileSet(), src: src, proto: mutant{file: file, path: path, src: src}, headers: map[ast.Stmt]bool{}}
	tree, err := parser.ParseFile(f.fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil || ast.IsGenerated(tree) {
		return nil, err
	}
	for _, decl := range tree.Decls {
		f.proto.function = "package"
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			f.values(decl.(*ast.GenDecl))
			continue
		}
		f.proto.function = functionName(fn)
		if fn.Name.Name != "String" && fn.Body != nil { // how a value prints in a log holds nothing
			f.results = []*ast.FieldList{fn.Type.Results}
			f.walk(fn.Body)
		}
	}
	seen := map[string]int{}
	for i := range f.found { // the second of two equal changes in a function is another mutant
		m := &f.found[i]
		seen[m.key()]++
		if n := seen[m.key()]; n > 1 {
			m.after += " #" + strconv.Itoa(n)
		}
	}
	return f.found, nil
}

// values finds the mutants of constants and variables, each under its name.
func (f *finder) values(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		f.proto.function = "package"
		if v, ok := spec.(*ast.ValueSpec); ok {
			f.proto.function = v.Names[0].Name
		}
		f.walk(spec)
	}
}

func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

func (f *finder) walk(root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			f.results = append(f.results, n.Type.Results)
			f.walk(n.Body)
			f.results = f.results[:len(f.results)-1]
			return false
		case *ast.ImportSpec:
			return false
		case *ast.BinaryExpr:
			f.swap(n, n.Op, n.OpPos)
		case *ast.ForStmt:
			f.header(n.Init, n.Post)
		case *ast.SwitchStmt:
			f.header(n.Init)
		case *ast.CommClause:
			f.header(n.Comm)
		case *ast.IfStmt:
			f.header(n.Init)
			f.condition(n.Cond)
			if f.leaves(n) {
				f.add("guard", n.Cond, n.Cond.Pos(), n.Cond.End(), "false && ("+f.at(n.Cond)+")")
			}
		case *ast.AssignStmt:
			f.swap(n, n.Tok, n.TokPos)
			if n.Tok != token.DEFINE {
				f.leaveOut(n)
			}
		case *ast.IncDecStmt:
			f.swap(n, n.Tok, n.TokPos)
			f.leaveOut(n)
		case *ast.ExprStmt:
			f.leaveOut(n)
		case *ast.DeferStmt:
			f.leaveOut(n)
		case *ast.BasicLit:
			f.constant(n)
		case *ast.Ident:
			switch n.Name {
			case "true":
				f.add("constant", n, n.Pos(), n.End(), "false")
			case "false":
				f.add("constant", n, n.Pos(), n.End(), "true")
			}
		case *ast.ReturnStmt:
			f.zero(n)
		}
		return true
	})
}

// header marks statements that stand between an if, for, switch or case and its body.
func (f *finder) header(parts ...ast.Stmt) {
	for _, s := range parts {
		f.headers[s] = true
	}
}

// leaves reports that an if does nothing but leave: its body's end is the way out, and it has no else.
func (f *finder) leaves(n *ast.IfStmt) bool {
	if n.Else != nil || len(n.Body.List) == 0 {
		return false
	}
	switch last := n.Body.List[len(n.Body.List)-1].(type) {
	case *ast.ReturnStmt, *ast.BranchStmt:
		return true
	case *ast.ExprStmt:
		return strings.HasPrefix(f.at(last), "panic(")
	}
	return false
}

// condition negates what swap does not.
func (f *finder) condition(cond ast.Expr) {
	if b, ok := cond.(*ast.BinaryExpr); ok && kindOf(b.Op) == "equality" {
		return
	}
	f.add("negation", cond, cond.Pos(), cond.End(), "!("+f.at(cond)+")")
}

func (f *finder) swap(n ast.Node, op token.Token, pos token.Pos) {
	if to, ok := swaps[op]; ok {
		f.add(kindOf(op), n, pos, pos+token.Pos(len(op.String())), to.String())
	}
}

// constant changes a number. Which way depends on its line's text, so that a line in equivalent.txt
// stays true when the file changes elsewhere.
func (f *finder) constant(n *ast.BasicLit) {
	line := f.lineOf(mutant{start: f.offset(n.Pos()), end: f.offset(n.End())}, "")
	to := ""
	switch {
	case n.Kind == token.INT && (len(line)%2 == 0 || n.Value == "0"):
		to = "(" + n.Value + " + 1)"
	case n.Kind == token.INT:
		to = "(" + n.Value + " - 1)"
	case n.Kind == token.FLOAT:
		to = "(2 * " + n.Value + ")"
		if v, _ := strconv.ParseFloat(n.Value, 64); v == 0 {
			to = "1.0"
		}
	default:
		return
	}
	f.add("constant", n, n.Pos(), n.End(), to)
}

// leaveOut keeps the statement in the source and out of the way, so that what it names stays used.
func (f *finder) leaveOut(n ast.Stmt) {
	if f.headers[n] {
		return // an if has no place there
	}
	f.add("statement", n, n.Pos(), n.End(), "if false { "+f.at(n)+" }")
}

// zero replaces one result of a return at a time; all of a call that returns several. Of results
// beside an error only the error is replaced, because nobody may use the others.
func (f *finder) zero(n *ast.ReturnStmt) {
	var types []string
	if list := f.results[len(f.results)-1]; list != nil {
		for _, field := range list.List {
			for range max(1, len(field.Names)) {
				types = append(types, f.at(field.Type))
			}
		}
	}
	if len(n.Results) == 0 {
		return
	}
	values := make([]string, len(types))
	for i := range types {
		values[i] = "*new(" + types[i] + ")"
	}
	instead := func(values []string) {
		f.add("result", n, n.Pos(), n.End(), "{ if true { return "+strings.Join(values, ", ")+" }; "+f.at(n)+" }")
		f.found[len(f.found)-1].after = "return " + strings.Join(values, ", ")
	}
	if len(n.Results) != len(types) {
		instead(values)
		return
	}
	last := len(types) - 1
	fails := last > 0 && types[last] == "error" && f.at(n.Results[last]) != "nil"
	for i, r := range n.Results {
		if fails && i < last {
			continue
		}
		switch f.at(r) {
		case "nil", "0", `""`, "false", "true", types[i] + "{}":
			continue
		}
		one := make([]string, len(types))
		for j := range types {
			one[j] = f.at(n.Results[j])
		}
		one[i] = values[i]
		instead(one)
	}
}

func (f *finder) offset(p token.Pos) int { return f.fset.Position(p).Offset }

func (f *finder) at(n ast.Node) string { return string(f.src[f.offset(n.Pos()):f.offset(n.End())]) }

// add records that the bytes from start to end become text; n is what a reader is shown of the place.
func (f *finder) add(kind string, n ast.Node, start, end token.Pos, text string) {
	m := f.proto
	m.kind, m.text = kind, text
	m.line = f.fset.Position(start).Line
	m.start, m.end = f.offset(start), f.offset(end)
	from, to := f.offset(n.Pos()), f.offset(n.End())
	m.before = oneLine(string(f.src[from:to]))
	m.after = oneLine(string(f.src[from:m.start]) + text + string(f.src[m.end:to]))
	if kind == "constant" {
		m.before, m.after = f.lineOf(m, ""), f.lineOf(m, text)
	}
	f.found = append(f.found, m)
}

// lineOf is the source line of a mutant, with text in its place unless that is empty.
func (f *finder) lineOf(m mutant, text string) string {
	from := strings.LastIndexByte(string(f.src[:m.start]), '\n') + 1
	rest, _, _ := strings.Cut(string(f.src[m.end:]), "\n")
	if text == "" {
		text = string(f.src[m.start:m.end])
	}
	return oneLine(string(f.src[from:m.start]) + text + rest)
}

// oneLine shortens source text for a reader.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 100 {
		s = string(r[:70]) + " … " + string(r[len(r)-27:])
	}
	return s
}
