/** Files of an <input>, a drop or the clipboard, folders included. */

/** Kept in step with what the service reads; tests/images/test_formats.py compares them. */
export const PICTURE_ENDINGS = ".tif,.tiff,.svs,.stk,.btf,.gif,.heic,.heif,.hif,.avif,.jp2,.j2k,.j2c,.jpc,.jpx,.jpf,.jxl,.pbm,.pgm,.ppm,.pnm,.pam,.pfm,.psd,.psb,.tga,.icb,.vda,.vst,.dcm,.dicom,.czi,.lif,.nd2,.ozx,.zarr.zip";

const ENDINGS = new RegExp(`(${[...PICTURE_ENDINGS.split(","), ".png", ".jpg", ".jpeg", ".webp", ".bmp"].join("|").replaceAll(".", "\\.")})$`, "i");

/** Whether a file of a folder is one to open; what was chosen by hand always is. */
export const looksLikePicture = ({ name, type }) => !name.startsWith(".") && (type.startsWith("image/") || ENDINGS.test(name));

/** @returns {{name: string, file: File}[]} name: with its folder, where the browser tells it */
export const filesOfInput = (input) => {
  const named = [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  return input.webkitdirectory ? inOrder(named.filter(({ file }) => looksLikePicture(file))) : named;
};

/** The files of a drop or the clipboard; folders are read through. @returns {Promise<{name: string, file: File}[]>} */
export async function filesOfTransfer(transfer) {
  const entries = [...transfer.items ?? []].map((item) => item.kind === "file" && item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(({ isDirectory }) => isDirectory)) return [...transfer.files].map((file) => ({ name: file.name, file }));
  const found = [];
  for (const entry of entries) await walk(entry, "", found, !entry.isDirectory);
  return inOrder(found);
}

async function walk(entry, folder, found, chosen) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    if (chosen || looksLikePicture(file)) found.push({ name: folder + file.name, file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!batch.length) return;
    for (const child of batch) await walk(child, `${folder}${entry.name}/`, found, false);
  }
}

const collator = new Intl.Collator("en", { numeric: true });

const inOrder = (files) => files.sort((a, b) => collator.compare(a.name, b.name));
