// Command windows-resources gives a Windows program its icon, its version and its
// manifest, and checks that a built one has them. It writes the same bytes for the
// same input, and it never signs: that comes after.
package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"image"
	_ "image/png" // the icons
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/tc-hib/winres"
	"github.com/tc-hib/winres/version"
)

const (
	// iconID is the group of icons that Wails takes for its window; Explorer takes the
	// lowest one there is.
	iconID = winres.ID(3)
	// english is the language of what stands in the resources (MS-LCID).
	english = 0x0409
	product = "Encounter Launcher"
)

// iconSizes are those that Windows asks for at 100 to 400 per cent.
var iconSizes = []int{16, 24, 32, 48, 64, 128, 256}

// known are the forms of a version that a resource can hold.
var known = regexp.MustCompile(`^\d{1,5}\.\d{1,5}\.\d{1,5}(-[0-9A-Za-z.-]+)?$`)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "windows-resources:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("windows-resources", flag.ContinueOnError)
	release := flags.String("version", "", "version of the program, such as 1.2.3")
	icons := flags.String("icons", "build/icons", "folder of the icons")
	check := flags.Bool("check", false, "change nothing: say whether the files have it all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !known.MatchString(*release) || numbers(*release) == [4]uint16{} || flags.NArg() == 0 {
		return errors.New("usage: windows-resources [-check] [-icons FOLDER] -version 1.2.3 FILE…")
	}
	for _, path := range flags.Args() {
		if !*check {
			if err := stamp(path, *release, *icons); err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(path), err)
			}
		}
		if err := verify(path, *release); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// stamp puts the resources into a program that has none, or others.
func stamp(path, release, icons string) error {
	program, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	set, err := resources(filepath.Base(path), release, icons)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := set.WriteToEXE(&out, bytes.NewReader(program)); err != nil {
		return err
	}
	// The program appears with its resources or not at all.
	if err := os.WriteFile(path+".new", out.Bytes(), 0o755); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func resources(name, release, icons string) (*winres.ResourceSet, error) {
	set := new(winres.ResourceSet)
	var images []image.Image
	for _, size := range iconSizes {
		img, err := picture(filepath.Join(icons, "encounter-launcher-"+strconv.Itoa(size)+".png"))
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	icon, err := winres.NewIconFromImages(images)
	if err != nil {
		return nil, err
	}
	if err := set.SetIcon(iconID, icon); err != nil {
		return nil, err
	}
	set.SetManifest(manifest())
	info := version.Info{FileVersion: numbers(release), ProductVersion: numbers(release)}
	for key, value := range texts(name, release) {
		if err := info.Set(english, key, value); err != nil {
			return nil, err
		}
	}
	set.SetVersionInfo(info)
	return set, nil
}

func picture(path string) (image.Image, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	img, _, err := image.Decode(file)
	return img, err
}

// manifest asks for no rights, draws sharply on every screen, and reaches files
// whose path is longer than 260 characters ("Application manifests", Microsoft
// Learn).
func manifest() winres.AppManifest {
	return winres.AppManifest{
		Description: product, Compatibility: winres.Win10AndAbove, ExecutionLevel: winres.AsInvoker,
		DPIAwareness: winres.DPIPerMonitorV2, LongPathAware: true, UseCommonControlsV6: true,
	}
}

func texts(name, release string) map[string]string {
	return map[string]string{
		version.ProductName: product, version.FileDescription: product, version.CompanyName: product,
		version.InternalName: strings.TrimSuffix(name, filepath.Ext(name)), version.OriginalFilename: name,
		version.FileVersion: release, version.ProductVersion: release,
	}
}

// numbers is a version without what follows a dash: Windows compares four numbers.
func numbers(release string) (four [4]uint16) {
	plain, _, _ := strings.Cut(release, "-")
	for i, part := range strings.Split(plain, ".") {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return [4]uint16{}
		}
		four[i] = uint16(n)
	}
	return four
}

// verify reads a program as Windows does and says what it lacks. A file that ends in
// .com is one of the console, any other has none.
func verify(path, release string) error {
	subsystem, want, err := subsystems(path)
	if err != nil {
		return err
	}
	if subsystem != want {
		return fmt.Errorf("its subsystem is %d, not %d", subsystem, want)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	set, err := winres.LoadFromEXE(file)
	if err != nil {
		return fmt.Errorf("reading its resources: %w", err)
	}
	icon, err := set.GetIcon(iconID)
	if err != nil {
		return fmt.Errorf("reading its icon: %w", err)
	}
	var ico bytes.Buffer
	if err := icon.SaveICO(&ico); err != nil {
		return fmt.Errorf("reading its icon: %w", err)
	}
	if n := int(binary.LittleEndian.Uint16(ico.Bytes()[4:])); n != len(iconSizes) { // ICONDIR.idCount
		return fmt.Errorf("its icon has %d sizes, not %d", n, len(iconSizes))
	}
	info, err := version.FromBytes(set.Get(winres.RT_VERSION, winres.ID(1), english))
	if err != nil {
		return fmt.Errorf("reading its version: %w", err)
	}
	if want := numbers(release); info.FileVersion != want || info.ProductVersion != want {
		return fmt.Errorf("its version is %v", info.FileVersion)
	}
	have := info.Table().GetMainTranslation()
	for key, value := range texts(filepath.Base(path), release) {
		if have[key] != value {
			return fmt.Errorf("its %s is %q, not %q", key, have[key], value)
		}
	}
	asked, err := winres.AppManifestFromXML(set.Get(winres.RT_MANIFEST, winres.ID(1), winres.LCIDDefault))
	if err != nil {
		return fmt.Errorf("reading its manifest: %w", err)
	}
	if asked != manifest() {
		return fmt.Errorf("its manifest says %+v", asked)
	}
	return nil
}

// subsystems returns that of the file and the one that its name stands for.
func subsystems(path string) (is, want uint16, err error) {
	file, err := pe.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	header, ok := file.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return 0, 0, errors.New("it is not a program of 64 bits")
	}
	want = pe.IMAGE_SUBSYSTEM_WINDOWS_GUI
	if strings.EqualFold(filepath.Ext(path), ".com") {
		want = pe.IMAGE_SUBSYSTEM_WINDOWS_CUI
	}
	return header.Subsystem, want, nil
}
