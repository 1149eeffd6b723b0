"""Files from http(s) URLs that somebody else named, fetched without trusting the URL.

    names.py       URLs as text: parsing, the form that may be shown, a safe file name
    addresses.py   which network addresses may be contacted
    connection.py  one GET, through redirects, over connections to checked addresses only
    part.py        the growing file, and whether the server can go on with it
    download.py    the whole fetch: retries, size bound, hash, rename

Proxy settings of the environment (HTTP_PROXY and the like) are not used: a proxy resolves names by itself, and then
nobody could promise that the address which was checked is the one that is contacted. SSL_CERT_FILE and SSL_CERT_DIR
are used.
"""

from gnomon.fetch.download import Fetched, fetch_url
from gnomon.fetch.names import file_name_of

__all__ = ["Fetched", "fetch_url", "file_name_of"]
