package console

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/history"
)

// Every setting of the example is on the page of the configuration, so that no type of a setting is forgotten.
func TestEverySettingIsShown(t *testing.T) {
	text, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("config.example.yaml", "", text)
	if err != nil {
		t.Fatal(err)
	}
	v := &view{console: &console{Source{History: history.New()}}, state: &State{Config: cfg}, now: time.Now()}
	shown := make(map[string]string)
	for _, s := range v.settings() {
		shown[s.Path] = s.Value
	}
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	checked := 0
	var check func(path string, value any)
	check = func(path string, value any) {
		switch value := value.(type) {
		case map[string]any:
			for key, member := range value {
				check(strings.TrimPrefix(path+"."+key, "."), member)
			}
		case []any:
			for i, element := range value {
				if _, group := element.(map[string]any); group {
					check(fmt.Sprintf("%s[%d]", path, i), element)
				}
			}
		default:
			if checked++; shown[path] == "" && !strings.HasPrefix(path, "partners.list") && value != "" {
				t.Errorf("the page lacks %s, which is %v", path, value)
			}
		}
	}
	check("", document)
	if checked < 100 {
		t.Errorf("checked %d settings, want at least 100", checked)
	}
}
