package validate

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// Claims are created by the conversion in checkToken alone: no other function of the tree
// converts to access.Claims or fills in a literal of it.
func TestClaimsAreMadeInOnePlace(t *testing.T) {
	var places []string
	files := gotoken.NewFileSet()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if file == nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if isClaims(n.Fun, file.Name.Name) {
					places = append(places, path)
				}
			case *ast.CompositeLit:
				if n.Type != nil && isClaims(n.Type, file.Name.Name) && len(n.Elts) > 0 {
					places = append(places, path)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(places) != 1 || places[0] != filepath.Join("..", "validate", "check.go") {
		t.Errorf("claims are made in %v, want in validate/check.go alone", places)
	}
}

// isClaims reports whether e is access.Claims, also in parentheses.
func isClaims(e ast.Expr, inPackage string) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && x.Name == "access" && e.Sel.Name == "Claims"
	case *ast.Ident:
		return inPackage == "access" && e.Name == "Claims"
	default:
		return false
	}
}
