/**
 * A certificate for "localhost" that nobody trusts, and its key, which is no secret. Made by
 * `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
 * -addext subjectAltName=DNS:localhost,IP:127.0.0.1`.
 */

export const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGXCFZrVXpbqxVZZG
41Fce/DJ9HwUDI/N3mw17cOjTkmhRANCAAQjWS4KpD6kiL6sK+wV6K1CPgZoYLiz
+wmIdaeqonPqtSKkujhaoP7jk2bqKUd5g3qxrtKOth03NqLLyAfg4Tom
-----END PRIVATE KEY-----
`;

export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUKCp1CZYrFCH+hCQPSrrBiy3qLJowCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNzA1MjQxMFoYDzIxMjYxMTAz
MDUyNDEwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQjWS4KpD6kiL6sK+wV6K1CPgZoYLiz+wmIdaeqonPqtSKkujhaoP7j
k2bqKUd5g3qxrtKOth03NqLLyAfg4Tomo28wbTAdBgNVHQ4EFgQUNVFoIbzGkdWl
nYH6t2D0X6bdm1AwHwYDVR0jBBgwFoAUNVFoIbzGkdWlnYH6t2D0X6bdm1AwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgRDSoEZqgL6363EQvIgU/SiOQ4rj9Jqi+dzTfE8FcwRACIQC2
io1UQwkXXuuojuTwpLG9yeNN9PBu43djgapNaANwbQ==
-----END CERTIFICATE-----
`;
