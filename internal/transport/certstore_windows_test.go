package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

func TestACertificateThatIsInNoStoreMakesAClientAndIsToldWhenAServerAsksForIt(t *testing.T) {
	rules := policy.Snapshot{ProxyMode: "direct", BackendURL: "https://backend.hospital.example", ClientCertificateThumbprint: strings.Repeat("0", 40)}
	if client(t, rules).Transport.(*roundTripper).backend == nil {
		t.Error("it would show nothing")
	}
	own, err := clientCertificate(rules)
	if err != nil {
		t.Fatal(err)
	}
	_, err = own.get(t.Context())
	if !problem.IsCode(err, problem.PolicyInvalid) || problem.Of(err).Fact != "ClientCertificateThumbprint cannot be used." {
		t.Errorf("got %v", err)
	}
}

func TestACertificateInAFileMakesNoClientHere(t *testing.T) {
	_, err := NewClient(policy.Snapshot{ProxyMode: "direct", BackendURL: "https://backend.hospital.example", ClientCertificateFile: `C:\client.pem`, ClientKeyFile: `C:\client.key`}, nil)
	if !problem.IsCode(err, problem.PolicyInvalid) || problem.Of(err).Fact != "ClientCertificateFile cannot be used." {
		t.Errorf("got %v", err)
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

// inMyStore does something in the person's store, which is kept when it is closed.
func inMyStore(t *testing.T, do func(store windows.Handle) error) {
	t.Helper()
	my, _ := windows.UTF16PtrFromString("MY")
	store, err := windows.CertOpenStore(windows.CERT_STORE_PROV_SYSTEM, 0, 0, windows.CERT_SYSTEM_STORE_CURRENT_USER, uintptr(unsafe.Pointer(my)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(store), windows.CertCloseStore(store, 0)); err != nil {
		t.Fatal(err)
	}
}

func TestACertificateWhoseKeyThisUserDoesNotHaveIsFoundAndRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "workstation"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := windows.CertCreateCertificateContext(windows.X509_ASN_ENCODING, &der[0], uint32(len(der)))
	if err != nil {
		t.Fatal(err)
	}
	inMyStore(t, func(store windows.Handle) error {
		return windows.CertAddCertificateContextToStore(store, c, windows.CERT_STORE_ADD_ALWAYS, nil)
	})
	t.Cleanup(func() {
		inMyStore(t, func(store windows.Handle) error {
			found, err := windows.CertFindCertificateInStore(store, windows.X509_ASN_ENCODING, 0, windows.CERT_FIND_EXISTING, unsafe.Pointer(c), nil)
			if err != nil {
				return err
			}
			return windows.CertDeleteCertificateFromStore(found)
		})
	})
	sum := sha1.Sum(der)
	_, err = storedCertificate(sum[:])
	if err == nil || !strings.Contains(err.Error(), "does not give its key to this user") {
		t.Errorf("got %v", err)
	}
	if chain, err := chainOf(c); err != nil || len(chain) != 1 || string(chain[0]) != string(der) {
		t.Errorf("%d certificates, %v", len(chain), err)
	}
}
