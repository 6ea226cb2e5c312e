package transport

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

func TestACertificateThatIsInNoStoreMakesNoClient(t *testing.T) {
	c, err := NewClient(policy.Snapshot{ProxyMode: "direct", BackendURL: "https://backend.hospital.example", ClientCertificateThumbprint: strings.Repeat("0", 40)}, nil)
	if c != nil || !problem.IsCode(err, problem.PolicyInvalid) || problem.Of(err).Fact != "ClientCertificateThumbprint cannot be used." {
		t.Errorf("got %v, %v", c, err)
	}
}

// storedByCNG makes a key in CNG that ends with the test.
func storedByCNG(t *testing.T) *storeKey {
	t.Helper()
	var provider, key windows.Handle
	status := func(name string, args ...uintptr) {
		t.Helper()
		r, _, err := ncrypt.NewProc(name).Call(args...)
		if r != 0 {
			t.Fatalf("%s: %#x %v", name, r, err)
		}
	}
	rsaName, _ := windows.UTF16PtrFromString("RSA")
	blob, _ := windows.UTF16PtrFromString("RSAPUBLICBLOB")
	status("NCryptOpenStorageProvider", uintptr(unsafe.Pointer(&provider)), 0, 0)
	status("NCryptCreatePersistedKey", uintptr(provider), uintptr(unsafe.Pointer(&key)), uintptr(unsafe.Pointer(rsaName)), 0, 0, 0)
	status("NCryptFinalizeKey", uintptr(key), 0)
	t.Cleanup(func() {
		_, _, _ = procFreeObject.Call(uintptr(key))
		_, _, _ = procFreeObject.Call(uintptr(provider))
	})
	public := make([]byte, 4096)
	var n uint32
	status("NCryptExportKey", uintptr(key), 0, uintptr(unsafe.Pointer(blob)), 0, uintptr(unsafe.Pointer(&public[0])), uintptr(len(public)), uintptr(unsafe.Pointer(&n)), 0)
	// BCRYPT_RSAKEY_BLOB: magic, bits, bytes of the exponent, of the modulus, of two primes.
	field := func(i int) int { return int(*(*uint32)(unsafe.Pointer(&public[4*i]))) }
	exponent := public[24 : 24+field(2)]
	modulus := public[24+field(2) : 24+field(2)+field(3)]
	return &storeKey{handle: key, public: &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}}
}

func TestAKeyThatStaysInCNGSignsAsTLSAsks(t *testing.T) {
	key := storedByCNG(t)
	public := key.public.(*rsa.PublicKey)
	digest := sha256.Sum256([]byte("what TLS signs"))
	plain, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], plain); err != nil {
		t.Errorf("PKCS #1: %v", err)
	}
	pss, err := key.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPSS(public, crypto.SHA256, digest[:], pss, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
		t.Errorf("PSS: %v", err)
	}
	if _, err := key.Sign(rand.Reader, digest[:20], crypto.SHA256); err == nil {
		t.Error("a digest of another length was signed")
	}
}

func TestTheTwoHalvesOfCNGsSignatureBecomeTheTwoNumbersOfTLS(t *testing.T) {
	raw := append(append(make([]byte, 31), 1), append([]byte{0xff}, make([]byte, 31)...)...)
	der, err := derSignature(raw)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &got); err != nil || len(rest) != 0 || got.R.Int64() != 1 || got.S.Cmp(new(big.Int).Lsh(big.NewInt(0xff), 248)) != 0 {
		t.Errorf("got %v %v, %v", got.R, got.S, err)
	}
	for _, bad := range [][]byte{nil, {1}, {1, 2, 3}} {
		if _, err := derSignature(bad); err == nil {
			t.Errorf("%v became a signature", bad)
		}
	}
}
