// Names the faces before the camera, one picture after another.

export class Camera {
  /**
   * @param {HTMLVideoElement} video
   * @param {(frame: ImageBitmap) => Promise<void>} onFrame is given the next picture when it is done with one.
   */
  constructor(video, onFrame) {
    this.video = video;
    this.onFrame = onFrame;
    this.stream = null;
  }

  get running() {
    return this.stream !== null;
  }

  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } } });
    this.video.srcObject = this.stream;
    await this.video.play();
    this.run(this.stream);
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  async run(stream) {
    while (this.stream === stream) {
      await new Promise((resolve) => this.video.requestVideoFrameCallback(resolve));
      if (this.stream === stream) await this.onFrame(await createImageBitmap(this.video));
    }
  }
}
