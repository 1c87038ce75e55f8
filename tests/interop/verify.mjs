// jose as a service that verifies by the published keys: one token a line, "accept" or why not.

import { createInterface } from 'node:readline'
import { createRemoteJWKSet, errors, jwtVerify } from 'jose'

const { COUNTERFOIL, ALGORITHM, AUDIENCE } = process.env
const keys = createRemoteJWKSet(new URL('/.well-known/jwks.json', COUNTERFOIL))
const options = {
  algorithms: [ALGORITHM], audience: AUDIENCE, issuer: COUNTERFOIL, typ: 'at+jwt',
  requiredClaims: ['exp', 'nbf', 'iat', 'sub', 'jti'],
}

for await (const token of createInterface({ input: process.stdin })) {
  try {
    await jwtVerify(token, keys, options)
    console.log('accept')
  } catch (error) {
    if (error instanceof errors.JWSSignatureVerificationFailed) console.log('signature')
    else if (error instanceof errors.JWKSNoMatchingKey) console.log('key')
    else if (error instanceof errors.JWTClaimValidationFailed) console.log({ aud: 'audience', typ: 'type' }[error.claim])
    else throw error
  }
}
