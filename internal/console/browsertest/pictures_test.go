package browsertest

import (
	"bufio"
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the pictures in docs/images")

// startScene runs the console with the invented hour of the pictures, and returns its address.
func startScene(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "scene")
	buildProgram(t, program, "./internal/console/scene")
	process := exec.Command(program)
	input, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = process.Wait()
	})
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// TestPictures draws the pictures of the documentation, and checks them by the same rules as the pages
// of a real gate.
func TestPictures(t *testing.T) {
	needBrowser(t)
	b := newBrowser(t, startScene(t))
	for _, p := range []struct{ name, path string }{
		{"overview", "/"}, {"partner", "/partner?name=borealis"}, {"access", "/access?method=POST&path=/payments"},
		{"revocations", "/revocations"},
	} {
		for _, scheme := range []string{"light", "dark"} {
			b.look(scheme, 1280, 900)
			b.visit(p.path)
			b.expectNoOverflow(p.path)
			b.expectAccessible(p.path + " in " + scheme)
			if *update {
				write(t, "../../../docs/images/console-"+p.name+"-"+scheme+".png", b.picture(1600))
			}
		}
		b.look("light", 390, 844)
		b.visit(p.path)
		b.expectNoOverflow(p.path + " on a phone")
		if folder := os.Getenv("TALLYGATE_PICTURES"); folder != "" {
			write(t, folder+"/"+p.name+"-phone.png", b.picture(4000))
		}
	}
}

// write writes a shot of a page.
func write(t *testing.T, file string, shot []byte) {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	best := png.Encoder{CompressionLevel: png.BestCompression}
	if err := best.Encode(&small, paletted(picture)); err != nil {
		t.Fatal(err)
	}
	if small.Len() > 200<<10 {
		t.Errorf("%s has %d bytes, want at most 200 KiB", file, small.Len())
	}
	if err := os.WriteFile(file, small.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// paletted returns picture with its 256 most frequent colors, and the nearest of them for the others, which
// are at the edges of letters.
func paletted(picture image.Image) image.Image {
	frequency := make(map[color.Color]int)
	area := picture.Bounds()
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			frequency[picture.At(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(frequency), func(a, b color.Color) int { return frequency[b] - frequency[a] })
	palette := color.Palette(colors[:min(256, len(colors))])
	indexes := make(map[color.Color]uint8)
	for _, c := range colors {
		indexes[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(area, palette)
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			out.SetColorIndex(x, y, indexes[picture.At(x, y)])
		}
	}
	return out
}
